"""What many people write instead: a loop over the SDK with its retries set to five. See child.py."""

import asyncio
import time

from openai import AsyncOpenAI, OpenAIError

from .child import Record, read_spec, report


async def main() -> None:
    spec, record = read_spec(), Record()
    turn = asyncio.Semaphore(spec["in_flight"])
    async with AsyncOpenAI(api_key="x", base_url=spec["base_urls"]["openai"], max_retries=5) as client:
        began = time.time()

        async def call(text: str) -> None:
            async with turn:
                try:
                    await client.chat.completions.create(
                        model="gpt-6.1-terra", messages=[{"role": "user", "content": text}]
                    )
                    record.note(time.time() - began, ok=True)
                except OpenAIError:
                    record.note(time.time() - began, ok=False)

        await asyncio.gather(*(call(prompt.text) for prompt in spec["prompts"]))
    report(record, first_call_at=began)


if __name__ == "__main__":
    asyncio.run(main())
