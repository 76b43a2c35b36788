from typing import Any


def add_rest(*a: Any) -> None: ...
