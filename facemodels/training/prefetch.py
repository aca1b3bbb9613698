"""training.prefetch: TODO."""

from concurrent.futures import ThreadPoolExecutor

from facemodels.core.errors import InputError


class _Ahead:
    """Makes batches in threads, `count` ahead of their use; their order and content do not depend on it."""

    def __init__(self, make, count):
        self.make, self.count, self.coming = make, count, {}
        self.pool = ThreadPoolExecutor(max(1, count))

    def __enter__(self):
        return self

    def take(self, step, end):
        for s in range(step, min(step + 1 + self.count, end)):
            if s not in self.coming:
                self.coming[s] = self.pool.submit(self.make, s)
        coming = self.coming.pop(step)
        error = coming.exception()
        if error is None:
            return coming.result()
        if isinstance(error, InputError):
            raise error
        raise RuntimeError(
            f"step {step}: its batch could not be made ({type(error).__name__}: {error})"
        ) from error  # SystemExit too: a thread's end is not the run's

    def __exit__(self, *_):
        self.pool.shutdown(wait=True, cancel_futures=True)
