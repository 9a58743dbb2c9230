"""The input of `structured_extraction.py`: mails that order something, and what is to be found in them.

Guarantees: always the same ones. Nothing but the standard library.
Called by: the example.
"""

from __future__ import annotations

import random
from typing import Any

_FIRST = ("Ada", "Boris", "Chipo", "Dilek", "Emil", "Fatima", "Goran", "Hana", "Igor", "Juana")
_LAST = ("Abe", "Brown", "Costa", "Diallo", "Eriksen", "Farah", "Gupta", "Horvat", "Ito", "Jansen")
_ITEMS = ("printer paper", "green tea", "safety gloves", "light bulbs", "copper wire", "wall paint")
_CITIES = ("Leeds", "Porto", "Gdansk", "Lagos", "Osaka", "Quito", "Turku", "Izmir")
_OPENINGS = (
    "Hello,\n\nafter our call yesterday: please send",
    "Dear Sir or Madam,\n\nas every spring we are in need of supplies. We would like to order",
    "Hi there,\n\nthe last delivery was a day late, but in good order. Can we have",
)
_ENDINGS = (
    "before the 14th? The 2 pallets of last month are paid.",
    "by road, please. Our gate 3 is open from 7 to 16.",
    "as soon as you can. You reach me at extension 421.",
)


def mails(count: int) -> list[tuple[str, dict[str, Any]]]:
    """So many mails, each with the order that stands in it."""
    chance = random.Random(7)
    return [_mail(chance) for _ in range(count)]


def _mail(chance: random.Random) -> tuple[str, dict[str, Any]]:
    order: dict[str, Any] = {
        "customer": f"{chance.choice(_FIRST)} {chance.choice(_LAST)}",
        "item": chance.choice(_ITEMS),
        "quantity": chance.randint(2, 60),
        "city": chance.choice(_CITIES),
    }
    amount = f"{order['quantity']} {chance.choice(('boxes', 'crates', 'pallets'))}"
    body = f"{chance.choice(_OPENINGS)} {amount} of {order['item']} to {order['city']} {chance.choice(_ENDINGS)}"
    return f"{body}\n\n{chance.choice(('Regards', 'Thank you', 'Best wishes'))}\n{order['customer']}\n", order
