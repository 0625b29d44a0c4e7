"""A peer in a process of its own: `python -m race.worker PEER` reads requests and writes replies, one JSON a line.

A request {"job": name, "task": arguments} makes the peer prepare that job; {"seed": number} then times one block of it.
A reply is what the block measured, or {"error": reason}.
"""

import gc
import importlib
import json
import os
import sys
from collections.abc import Callable

from race.timing import memory


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not be taken for a reply
    block: Callable[[int], dict] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "job" in request:
                block = None
                gc.collect()
                name = sys.argv[1]
                peer = importlib.import_module(name if "." in name else f"race.peers.{name}")
                block = getattr(peer, request["job"])(**request["task"])
                reply = {}
            else:
                assert block is not None, "a block is timed after its job is prepared"
                reply = block(request["seed"])
        except Exception as error:  # whatever it is, the others go on and the table shows it
            lines = str(error).strip().splitlines() or [""]
            reply = {"error": f"{type(error).__name__}: {lines[0]}"}
        print(json.dumps({**reply, "memory": memory()}), file=replies, flush=True)


if __name__ == "__main__":
    main()
