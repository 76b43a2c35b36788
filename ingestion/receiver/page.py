from typing import Any


def add_pages(*a: Any) -> None: ...
