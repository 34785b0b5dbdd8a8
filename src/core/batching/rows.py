"""Rows of batches: the request that a task becomes, and the end of the task that an answer is."""

from __future__ import annotations

from dataclasses import replace

from ...agents.real_agent import RealAgent, checked
from ...errors import ContentRefused, ProviderError
from ...messages import media_in
from ...providers.batch_api import BatchApi, RowAnswer
from ...records import (
    BATCH,
    Attempt,
    Completion,
    CompletionRequest,
    FinishReason,
    Outcome,
    Placement,
    Result,
    TaskStatus,
    Usage,
)
from ...routing.balancer import ProviderLoadBalancer
from ...routing.cost.pricing import Charge
from ...routing.outcomes import outcome_of
from ..store import BatchedTask, ProviderBatch, RowEnd
from .offers import PRICE_FACTOR

LOST = "the provider has deleted the results of the batch"


class BatchRowReader:
    """Makes requests of tasks, and results of answers, for the batches of one pool."""

    def __init__(self, balancer: ProviderLoadBalancer, agent: RealAgent) -> None:
        """`agent`: any of the pool, since all make the same requests."""
        self._balancer, self._agent = balancer, agent
        self._failover_on_refusal = balancer.settings.routing.failover_on_refusal

    def request(self, batch: ProviderBatch, row: BatchedTask, now: float) -> CompletionRequest:
        """The request of a row, as a live call to the same model would send it."""
        placement = Placement(
            0, row.task, batch.provider, batch.model, "", row.tier, row.agent, row.max_tokens, BATCH,
            (), now, self._balancer.settings.providers[batch.provider].timeout_s, row.number,
        )  # fmt: skip
        return self._agent.request_for(placement)

    async def end(
        self, api: BatchApi, batch: ProviderBatch, row: BatchedTask, answer: RowAnswer, now: float
    ) -> RowEnd:
        """How the row came back. A task whose row failed runs live, as after any failed attempt."""
        if answer.body is None and answer.error is None:
            return RowEnd(row.place)
        request = self.request(batch, row, now)
        rendered = await api.render(batch.marker, row.place, request)
        try:
            completion = api.read(answer, request, rendered.warnings)
            completion = await checked(completion, request, batch.provider)
        except ProviderError as error:
            attempt = self._attempt(batch, row, None, error, now)
            refused = isinstance(error, ContentRefused) and not self._failover_on_refusal
            return RowEnd(row.place, attempt, self._refused(row, attempt, error, now) if refused else None)
        self._learn(batch, row, completion)
        attempt = self._attempt(batch, row, completion, None, now)
        return RowEnd(row.place, attempt, self._answered(batch, row, attempt, completion))

    def _learn(self, batch: ProviderBatch, row: BatchedTask, completion: Completion) -> None:
        """Answers in batches are as long as others: plans and limits learn from both."""
        task, provider = row.task, self._balancer.by_name[batch.provider]
        chars = 0 if any(media_in(task.messages)) else task.text_chars
        of = (task.task_type, chars, len(task.messages))
        provider.estimators.observe(*of, completion.usage, in_batch=True)

    def lost(self, batch: ProviderBatch, row: BatchedTask, now: float) -> RowEnd:
        """How a row ends whose result the provider does not have any more: it may have been billed."""
        attempt = self._attempt(batch, row, None, None, now)
        nanos = row.reserved_nanos
        return RowEnd(row.place, replace(attempt, outcome=Outcome.UNCERTAIN, cost_nanos=nanos, error=LOST))

    def _attempt(
        self,
        batch: ProviderBatch,
        row: BatchedTask,
        completion: Completion | None,
        error: ProviderError | None,
        now: float,
    ) -> Attempt:
        usage = completion.usage if completion is not None else error.usage if error is not None else None
        outcome = outcome_of(completion, error)
        if outcome is Outcome.UNCERTAIN:
            outcome = Outcome.NEUTRAL  # what a batch did not answer is not billed
        started_at = batch.submitted_at or batch.created_at
        charge = self._charge(batch, usage, now)
        return Attempt(
            row.number, batch.provider, batch.model, row.agent, outcome, started_at,
            max(0.0, now - started_at), BATCH, (), False, error.kind if error else "",
            error.message if error else "", error.status if error else None, usage or Usage(),
            charge.cost_nanos if charge else None, row.max_tokens, *(charge[1:] if charge else ()),
        )  # fmt: skip

    def _charge(self, batch: ProviderBatch, usage: Usage | None, now: float) -> Charge | None:
        """None: the price is unknown."""
        if usage is None:
            return Charge(0)
        provider = self._balancer.by_name[batch.provider]
        model = provider.model(batch.model, self._balancer.settings, now)
        price = self._balancer.registry.price_of(provider, model, now)
        return None if price is None else price.charge(usage, PRICE_FACTOR)

    def _warnings(self, batch: ProviderBatch, row: BatchedTask, now: float) -> tuple[str, ...]:
        """What the model does not take of the task, as the placement of a live call names it."""
        for option in self._balancer.route(row.task, now, row.tier).options:
            if (option.provider.name, option.model.name) == (batch.provider, batch.model):
                return option.warnings
        return ()

    def _answered(
        self, batch: ProviderBatch, row: BatchedTask, attempt: Attempt, completion: Completion
    ) -> Result:
        now = attempt.started_at + attempt.latency_s
        return Result(
            row.task,
            TaskStatus.SUCCEEDED,
            now,
            (attempt,),
            output=completion.text,
            parts=completion.parts,
            finish_reason=str(completion.finish_reason),
            truncated=completion.finish_reason is FinishReason.LENGTH,
            warnings=(*self._warnings(batch, row, now), *completion.warnings),
            tier=row.tier,
            baseline_nanos=self._balancer.registry.prices.baseline_nanos(completion.usage, now),
        )

    @staticmethod
    def _refused(row: BatchedTask, attempt: Attempt, error: ProviderError, now: float) -> Result:
        return Result(row.task, TaskStatus.REFUSED, now, (attempt,), error=error.message, tier=row.tier)
