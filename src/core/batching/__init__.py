"""Work that may wait for its deadline goes to the providers' batch APIs, at half price.

    store.deferrals --groups--> offers --choose--> submitter --create--> provider      keeper: each round
                                                                           |          life: a batch's steps
    store <----------------- collector <----------- life: polls -----------+

`routing/batch_choice.py` decides; this package acts, and every step is in the store before the next one. So a
killed orchestrator's successor goes on where it was, whatever that is.
"""
