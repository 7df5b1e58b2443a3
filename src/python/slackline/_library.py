"""libslackline, by ctypes; see slackline.h."""
from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path


class Place(ctypes.Structure):
    """slackline_place."""

    _fields_ = [
        ("rank", ctypes.c_int),
        ("ranks", ctypes.c_int),
        ("pipeline", ctypes.c_int),
        ("pipelines", ctypes.c_int),
        ("lane", ctypes.c_int),
        ("lanes", ctypes.c_int),
        ("gpu", ctypes.c_char_p),
    ]


_SESSION = ctypes.c_void_p
_INT_POINTER = ctypes.POINTER(ctypes.c_int)
_FUNCTIONS = {
    "join": (ctypes.c_int, [ctypes.POINTER(Place), ctypes.POINTER(_SESSION)]),
    "close": (None, [_SESSION]),
    "step_begin": (ctypes.c_int, [_SESSION]),
    "step_begin_with": (ctypes.c_int, [_SESSION, ctypes.c_int]),
    "step_end": (ctypes.c_int, [_SESSION]),
    "instruction_begin_on": (ctypes.c_int, [_SESSION, ctypes.c_int, ctypes.c_int, ctypes.c_int]),
    "instruction_end": (ctypes.c_int, [_SESSION]),
    "instruction_took": (ctypes.c_int, [_SESSION, ctypes.c_double]),
    "instruction_again": (ctypes.c_int, [_SESSION]),
    "order_length": (ctypes.c_int, [_SESSION]),
    "order_entry": (ctypes.c_int, [_SESSION, ctypes.c_int, _INT_POINTER, _INT_POINTER, _INT_POINTER]),
    "plan": (ctypes.c_int, [_SESSION]),
    "agrees": (ctypes.c_int, [_SESSION]),
    "best_plan": (ctypes.c_int, [_SESSION]),
    "set_straggler": (ctypes.c_int, [_SESSION, ctypes.c_int, ctypes.c_double]),
    "straggler": (ctypes.c_double, [_SESSION, ctypes.c_int]),
    "notices": (ctypes.c_uint, [_SESSION]),
    "message": (ctypes.c_char_p, [_SESSION]),
    "is_simulated": (ctypes.c_int, [_SESSION]),
}


@lru_cache(maxsize=None)
def library() -> ctypes.CDLL:
    """The one that $SLACKLINE_LIBRARY names, that of this package, or the system's."""
    named = os.environ.get("SLACKLINE_LIBRARY")
    own = Path(__file__).with_name("libslackline.so")
    path = named or (str(own) if own.exists() else "libslackline.so.0")
    loaded = ctypes.CDLL(path)
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(loaded, f"slackline_{name}")
        function.restype = result
        function.argtypes = arguments
    return loaded
