"""Where calls run: in the leader's own process, or on workers on other machines."""
