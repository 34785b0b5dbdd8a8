"""How answers go out: at once or as a stream, sound or broken."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from aiohttp import web

from .engine import Call, Engine
from .net import begin, reset_connection, whole
from .shapes import Answer, Frame, StreamForm
from .streaming import Pace, StreamWriter, half, unterminated, with_a_malformed_frame

_TRICKLE_S = 1.0  # seconds between two bytes
_ARRIVAL_S = 0.01  # let what was written arrive before a reset overtakes it
_ENDS_HALF_WAY = frozenset({"stream_cut", "stream_stall", "stream_error", "reset_midway"})


class Sender:
    """Sends the answers of one provider. Each method gives the response, and how the call counts."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._dropped = asyncio.Event()

    async def hang(self) -> None:
        """Wait until the client leaves, which cancels this task, or until `drop`."""
        await self._dropped.wait()

    def drop(self) -> None:
        """End the calls that hang."""
        self._dropped.set()
        self._dropped = asyncio.Event()

    # -- at once --

    async def send(self, request: web.BaseRequest, call: Call) -> tuple[web.StreamResponse, str]:
        """The whole answer, after its latency."""
        engine, fault = self._engine, call.fault
        try:
            await self._take_time(call)
            engine.prompt_was_read(call)
        finally:  # an answer is charged even if the client has left
            engine.produced(call, call.reply.output_tokens)
        ident = engine.ident()
        body = engine.api_format.answer(call.ask, call.reply, ident)
        headers = {**call.headers, **engine.api_format.id_headers(ident)}
        if fault == "malformed":
            return whole(Answer(200, body[: len(body) * 2 // 3]), headers), "200"
        if fault == "reset_midway":
            response = await begin(request, body, headers)
            await response.write(body[: len(body) // 2])
            return response, await self._reset(request)
        if fault == "trickle":
            response = await begin(request, body, headers)
            return response, await self._trickle(response, body)
        engine.answered(call)
        return whole(Answer(200, body), headers), "200"

    async def _take_time(self, call: Call) -> None:
        latency = self._engine.config.latency
        wait_s = latency.first_token_s + latency.per_token_s * call.reply.output_tokens
        if wait_s > 0:
            await asyncio.sleep(wait_s * self._engine.delay_factor(call.ask))

    # -- as a stream --

    async def stream(
        self, request: web.BaseRequest, call: Call, form: StreamForm
    ) -> tuple[web.StreamResponse, str]:
        """The answer piece by piece. Its output is charged as far as it was sent."""
        engine = self._engine
        engine.stats.streams += 1
        ident = engine.ident()
        headers = {"Content-Type": engine.api_format.stream_type(form), "Cache-Control": "no-cache"}
        headers |= {**call.headers, **engine.api_format.id_headers(ident)}
        response = web.StreamResponse(status=200, headers=headers)
        writer = StreamWriter(response, self._pace(call))
        frames = engine.api_format.frames(call.ask, call.reply, ident, engine.slicer(call))
        outcome = "gone"
        try:
            if call.fault != "stream_slow_start":
                await writer.first_token()  # it comes with the headers
            await response.prepare(request)
            engine.prompt_was_read(call)
            outcome = await self._write(request, call, writer, frames)
        except ConnectionError:  # the client left between two writes
            reset_connection(request.transport)
        finally:
            engine.produced(call, writer.tokens)
            engine.stats.aborted_streams += outcome == "gone"
        return response, outcome

    def _pace(self, call: Call) -> Pace:
        config = self._engine.config
        first_s, token_s = config.latency.first_token_s, config.latency.per_token_s
        if first_s + token_s > 0:
            factor = self._engine.delay_factor(call.ask)
            first_s, token_s = first_s * factor, token_s * factor
        if call.fault == "stream_slow_start":
            first_s = config.slow_start_s
        return Pace(first_s, token_s)

    async def _write(
        self, request: web.BaseRequest, call: Call, writer: StreamWriter, frames: Iterator[Frame]
    ) -> str:
        fault = call.fault
        if fault in _ENDS_HALF_WAY:
            return await self._write_half(request, call, writer, half(frames))
        if fault == "trickle":
            return await self._trickle(writer.response, b"".join(frame.data for frame in frames))
        if fault == "malformed":
            await writer.write(with_a_malformed_frame(frames))
        elif fault == "stream_unterminated":
            await writer.write(unterminated(frames))
        else:
            await writer.write(frames, byte_by_byte=fault == "stream_bytes")
            self._engine.answered(call)
        return "200"

    async def _write_half(
        self, request: web.BaseRequest, call: Call, writer: StreamWriter, begun: list[Frame]
    ) -> str:
        await writer.write(begun)
        if call.fault == "reset_midway":
            return await self._reset(request)
        if call.fault == "stream_stall":
            await self.hang()
            return await self._reset(request)
        if call.fault == "stream_error":
            await writer.response.write(self._engine.error_frame(call.ask, is_first=not begun))
        return "200"

    async def _trickle(self, response: web.StreamResponse, body: bytes) -> str:
        for i in range(len(body)):
            await response.write(body[i : i + 1])
            await asyncio.sleep(_TRICKLE_S)
        return "200"

    async def _reset(self, request: web.BaseRequest) -> str:
        await asyncio.sleep(_ARRIVAL_S)
        reset_connection(request.transport)
        return "reset"
