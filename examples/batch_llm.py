"""Rate how clear 1,000 docstrings are with an LLM: one by one, then on 100 threads, then on one event loop.

    python examples/batch_llm.py                      # against a demo server, which starts by itself
    python examples/batch_llm.py --prompts 200 --workers 20 --mode thread
    OPENAI_API_KEY=… python examples/batch_llm.py --base-url https://api.openai.com/v1 --model gpt-4o-mini --prompts 50

What is new to somebody who has such a loop stands in this file. The demo server, the input, the command line, the
table and the plot are in `support/`.
"""

import sys

import openai
from support.job import Job, read_job
from support.report import Report, Run, read_rating

from concurry import ProgressBar, RetryConfig, Worker, gather


class Rater(Worker):
    """Asks an LLM how clear a docstring is. An ordinary class: `Rater(client, "gpt-4o-mini")` works as well."""

    def __init__(self, client: openai.OpenAI, model: str) -> None:
        self.client = client  # may be shared by all threads
        self.model = model

    def rate(self, docstring: str) -> str:
        prompt = QUESTION.format(docstring)
        with self.limits.acquire(requested={"tokens": len(prompt) // 4 + 50}) as acq:
            reply = self.client.chat.completions.create(
                model=self.model, messages=[{"role": "user", "content": prompt}]
            )
            acq.update(usage={"tokens": reply.usage.total_tokens if reply.usage else 0})
        return reply.choices[0].message.content or ""


class AsyncRater(Worker):
    """The same with `async def`: all calls run together on one event loop."""

    def __init__(self, client: openai.AsyncOpenAI, model: str) -> None:
        self.client = client
        self.model = model

    async def rate(self, docstring: str) -> str:
        prompt = QUESTION.format(docstring)
        async with self.limits.acquire(requested={"tokens": len(prompt) // 4 + 50}) as acq:
            reply = await self.client.chat.completions.create(
                model=self.model, messages=[{"role": "user", "content": prompt}]
            )
            acq.update(usage={"tokens": reply.usage.total_tokens if reply.usage else 0})
        return reply.choices[0].message.content or ""

    async def stop(self) -> None:  # runs in the worker, when it is stopped
        await self.client.close()


QUESTION = '''Rate the clarity of this docstring of the Python standard library from 1 to 10, for somebody who reads it
for the first time. Answer with JSON only: {{"clarity": <number>, "reason": "<one sentence>"}}.

"""{}"""'''


def is_rating(reply: str) -> bool:
    """Whether a reply has the form that was asked for; models do not always do as they are told."""
    try:
        clarity: float = read_rating(reply)["clarity"]
    except ValueError:
        return False
    return 1 <= clarity <= 10


RETRIES = RetryConfig(
    num_retries=8,
    retry_on=[openai.RateLimitError, openai.InternalServerError, openai.APIConnectionError],
    retry_until=is_rating,
    retry_wait=0.25,  # doubled with every attempt; a server's `Retry-After` counts for more
)


def one_by_one(job: Job, run: Run) -> None:
    """The loop that everybody begins with. A sample is enough: the rest would take as long again, and again."""
    options = Rater.options(mode="sync", limits=job.limits(), retry_config=RETRIES)
    with job.client() as client, options.init(client, job.model) as rater:
        for name, docstring in ProgressBar(run.docstrings.items(), desc=run.name, unit="prompt"):
            run.add(name, rater.rate(docstring))


def on_threads(job: Job, run: Run) -> None:
    options = Rater.options(mode="thread", max_workers=job.workers, limits=job.limits(), retry_config=RETRIES)
    with job.client() as client, options.init(client, job.model) as rater:
        futures = {name: rater.rate(docstring) for name, docstring in run.docstrings.items()}
        for name, reply in gather(futures, iter=True, return_exceptions=True, progress=run.progress):
            run.add(name, reply)


def on_an_event_loop(job: Job, run: Run) -> None:
    options = AsyncRater.options(mode="asyncio", max_concurrency=job.workers, limits=job.limits(), retry_config=RETRIES)
    with options.init(job.async_client(), job.model) as rater:
        futures = {name: rater.rate(docstring) for name, docstring in run.docstrings.items()}
        for name, reply in gather(futures, iter=True, return_exceptions=True, progress=run.progress):
            run.add(name, reply)


def main() -> int:
    job = read_job(__doc__)
    with job, Report(job) as report:  # the report is printed also after Ctrl-C
        with report.run("one by one", sample=job.sample) as run:
            one_by_one(job, run)
        if job.mode in ("thread", "both"):
            with report.run(f"thread, {job.workers} workers") as run:
                on_threads(job, run)
        if job.mode in ("asyncio", "both"):
            with report.run(f"asyncio, {job.workers} at once") as run:
                on_an_event_loop(job, run)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
