"""Runs ministack for a test: with a clock that the test sets forward, and only for as long as the test lives.

Each line on standard input is a number of seconds by which the clock goes forward; it is answered by a line when that is done. The end of
standard input, which comes when the test ends in whatever way, ends this program.
"""

import os
import sys
import threading
import time

forward = 0.0
clock = time.time
time.time = lambda: clock() + forward


def listen():
    global forward
    for line in sys.stdin:
        forward += float(line)
        print(forward, flush=True)
    os._exit(0)


threading.Thread(target=listen, daemon=True).start()

from ministack.app import main  # noqa: E402  (the clock comes first)

sys.argv = ["ministack"]
main()
