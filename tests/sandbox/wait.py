"""Waiting for a condition, never for a time."""
import time


def wait_for(condition, timeout_s=10.0, what="condition", every_s=0.02):
    """Returns the condition's first true value; the last exception or a TimeoutError when time is up."""
    end = time.monotonic() + timeout_s
    error = None
    while True:
        try:
            value = condition()
            if value:
                return value
            error = None
        except AssertionError:
            raise  # a broken promise is not waited out
        except Exception as problem:  # of whatever client library: the server isn't there yet
            error = problem
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout_s} s" + (f" ({error})" if error else ""))
        time.sleep(every_s)
