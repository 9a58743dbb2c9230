"""Structured extraction: orders out of mails, as objects of a pydantic model, and never one that the mail does not say.

    python examples/structured_extraction.py

The demo server plays the model. One answer in ten is cut off, and one in ten has a number that it made up, as models
do: the first is no valid `Order`, the second is one that does not fit its mail. Both are asked for again.
"""

import openai
from pydantic import BaseModel, Field, ValidationError
from support.orders import mails
from support.server import running_server, server_stats

from concurry import RetryValidationError, Worker, gather


class Order(BaseModel):
    customer: str = Field(min_length=1)
    item: str = Field(min_length=1)
    quantity: int = Field(gt=0)
    city: str


QUESTION = 'Extract the order from this mail, as JSON: {{"customer", "item", "quantity", "city"}}.\n\n{}'


class Extractor(Worker):
    def __init__(self, client: openai.OpenAI) -> None:
        self.client = client

    def extract(self, mail: str) -> Order:
        reply = self.client.chat.completions.create(
            model="demo-model",
            messages=[{"role": "user", "content": QUESTION.format(mail)}],
            response_format={"type": "json_object"},
        )
        return Order.model_validate_json(reply.choices[0].message.content or "")


def stands_in_the_mail(result: Order, args: tuple[str], **_: object) -> bool:
    """A check that no schema can make: the call's own arguments are at hand."""
    (mail,) = args
    words = mail.split()
    return str(result.quantity) in words and all(word in words for word in f"{result.customer} {result.city}".split())


options = Extractor.options(
    mode="thread",
    max_workers=20,
    num_retries=6,
    retry_on=[ValidationError, openai.RateLimitError, openai.InternalServerError, openai.APIConnectionError],
    retry_until=stands_in_the_mail,
    retry_wait=0.02,
)


def main() -> None:
    inputs = mails(60)
    with (
        running_server(latency=0.05, short_rate=0.1, invent_rate=0.1) as base_url,
        openai.OpenAI(base_url=base_url, api_key="demo", max_retries=0) as client,
    ):
        with options.init(client) as extractor:
            futures = [extractor.extract(mail) for mail, _ in inputs]
            orders = gather(futures, return_exceptions=True, progress={"desc": "extracting", "unit": "mail"})
        asked = server_stats(base_url)["200"]
    good = 0
    for order, (_, expected) in zip(orders, inputs, strict=True):
        if isinstance(order, RetryValidationError):
            print(f"  never right, in {order.attempts} attempts: {order.all_results[-1]}")
        elif isinstance(order, BaseException):
            print(f"  failed: {order}")
        else:
            good += order.model_dump() == expected
    print(f"{good} of {len(inputs)} orders are what their mails say; {asked - good} answers were refused on the way")
    print(f"the first: {orders[0]!r}")


if __name__ == "__main__":
    main()
