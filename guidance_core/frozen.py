"""Frozen dataclasses that are declared in no time: `@frozen` for `@dataclass(frozen=True)`.

The standard library's compiles six functions for each class when it is declared, which for 200 classes is most of what
ComfyUI waits for at its start. Here a class's `__init__` is compiled with its first instance; the rest is shared.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from typing import dataclass_transform  # which Python 3.10 does not have
else:

    def dataclass_transform(**spec):
        return lambda decorator: decorator


C = TypeVar("C", bound=type)


@overload
def frozen(cls: C, /) -> C: ...
@overload
def frozen(*, eq: bool = True, repr: bool = True) -> Callable[[C], C]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def frozen(cls: Any = None, /, *, eq: bool = True, repr: bool = True) -> Any:
    """A class as a dataclass whose instances do not change; what it defines itself stays. Fields as in dataclasses.

    eq: whether instances with equal fields are equal. repr: whether it shows its fields.
    """
    if cls is None:
        return lambda cls: frozen(cls, eq=eq, repr=repr)  # type: ignore[call-overload]
    shared: dict[str, Any] = {"__setattr__": _set, "__delattr__": _delete}
    shared |= {"__repr__": _repr} if repr else {}
    shared |= {"__eq__": _eq, "__hash__": _hash} if eq else {}
    for name, method in shared.items():
        if name not in vars(cls):
            setattr(cls, name, method)
    cls.__doc__ = cls.__doc__ or cls.__name__  # else its signature is made to be its text
    with _as_if_not_frozen(cls.__mro__[1:]):
        cls = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    cls.__dataclass_params__.frozen = True  # so that the standard library's own may be derived from it
    cls.__init__ = _Init(cls) if dataclasses.fields(cls) else _without_fields
    return cls


@contextmanager
def _as_if_not_frozen(bases: Iterable[type]) -> Iterator[None]:
    """The standard library makes a frozen class of frozen ones alone, and would compile what is shared here."""
    params = [vars(base)["__dataclass_params__"] for base in bases if "__dataclass_params__" in vars(base)]
    were = [each.frozen for each in params]
    try:
        for each in params:
            each.frozen = False
        yield
    finally:
        for each, frozen in zip(params, were, strict=True):
            each.frozen = frozen


class _Init:
    """Stands for a class's `__init__` until it is asked for, and is then replaced by the compiled one."""

    def __init__(self, cls: Any):
        self._cls = cls

    def __get__(self, instance: object, owner: type | None = None) -> Callable[..., None]:
        cls = self._cls
        fields = [(field.name, field.type, field) for field in dataclasses.fields(cls)]
        after = {"__post_init__": cls.__post_init__} if hasattr(cls, "__post_init__") else {}
        made = dataclasses.make_dataclass(
            cls.__name__, fields, namespace=after, repr=False, eq=False, match_args=False, frozen=True
        )
        cls.__init__ = init = vars(made)["__init__"]
        return init.__get__(instance, owner)


def _without_fields(self: Any) -> None:
    if hasattr(self, "__post_init__"):
        self.__post_init__()


def _compared(self: Any) -> tuple:
    return tuple(getattr(self, field.name) for field in dataclasses.fields(self) if field.compare)


def _eq(self: Any, other: object) -> bool:
    return _compared(self) == _compared(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _repr(self: Any) -> str:
    shown = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({shown})"


def _set(self: Any, name: str, value: object) -> None:
    _refuse(self, name)
    object.__setattr__(self, name, value)


def _delete(self: Any, name: str) -> None:
    _refuse(self, name)
    object.__delattr__(self, name)


def _refuse(self: Any, name: str) -> None:
    """Of a class that is derived without a decorator, attributes that are no fields may change."""
    if "__dataclass_params__" in vars(type(self)) or name in type(self).__dataclass_fields__:
        raise dataclasses.FrozenInstanceError(f"{type(self).__name__} is frozen: its {name} cannot be changed.")
