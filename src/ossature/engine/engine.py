"""Continuous batching: sequences come and go, and each forward pass computes whatever is next for all of them.

The engine is driven by whoever calls `step`, by the readers of its streams, or by a thread of its own between `start`
and `stop`. One lock is held for a whole step; what arrives meanwhile waits in two queues that need no lock, so that
submitting takes no time, and a stream may be dropped at any moment, even by the garbage collector inside a step.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self

from ossature.engine.batcher import Batcher, EngineStats
from ossature.engine.prefix import PrefixCache
from ossature.engine.scheduler import Scheduler
from ossature.engine.sequence import Sequence
from ossature.engine.speculation import MOST
from ossature.errors import ConfigError, EngineError, QueueFullError, notice
from ossature.model import KVCache, Transformer

__all__ = ["Engine"]


class Engine:
    """One model, one cache, and the sequences that share them."""

    def __init__(
        self,
        model: Transformer,
        *,
        max_sequences: int,
        max_tokens: int,
        blocks: int | None = None,
        block_size: int = 64,
        chunk: int = 512,
        max_queue: int = 256,
        read_ahead: int | None = None,
        speculation: bool = True,
        deterministic: bool = False,
        prefix_cache: bool = True,
        prefix_bytes: int = 512 << 20,
        snapshot_every: int = 512,
    ) -> None:
        """Reserves the cache's memory; the system backs it as it is written.

        max_sequences   computed at once; more wait, at most `max_queue` of them
        max_tokens      positions of one sequence; the model's context where that is less
        blocks          of `block_size` positions, in the pool that the sequences share; None: enough for all at their
                        longest. A sequence may then be as long as the pool
        chunk           rows of prompts in one step
        read_ahead      a sequence with so many unread ids pauses; None: sequences run whether they are read or not
        speculation     propose what a sequence has said before, verify several ids a step
        deterministic   refuse a model whose rows depend on what else is computed
        prefix_cache    keep beginnings of sequences, in at most `prefix_bytes`, every `snapshot_every` positions and at
                        the ends of prompt and sequence

        Raises ConfigError for a number below 1 or a model that is not deterministic where that was asked for.
        """
        numbers = {"max_sequences": max_sequences, "max_tokens": max_tokens, "chunk": chunk, "max_queue": max_queue}
        numbers |= {"blocks": blocks, "read_ahead": read_ahead, "snapshot_every": snapshot_every}
        for name, number in numbers.items():
            if number is not None and number < 1:
                raise ConfigError(f"{name} is {number}; an engine needs 1 or more.")
        if deterministic and not model.deterministic:
            raise ConfigError(
                "this model's rows may depend on what else is computed; load it with load_model(…, deterministic=True)."
            )
        context = min(max_tokens, model.config.max_position_embeddings)
        self.model = model
        self.max_tokens = context if blocks is None else min(context, blocks * block_size)
        self.max_queue = max_queue
        self.failure: BaseException | None = None
        cache = KVCache(
            model.config,
            max_sequences=max_sequences,
            max_tokens=self.max_tokens,
            slack=max(chunk, MOST + 1),
            block_size=block_size,
            blocks=blocks,
            dtype=model.dtype,
            device=model.inv_freq.device,
        )
        prefixes = PrefixCache(cache, limit=prefix_bytes, every=snapshot_every) if prefix_cache else None
        scheduler = Scheduler(cache, prefixes, chunk=chunk, read_ahead=read_ahead, speculation=speculation)
        self._batcher = Batcher(model, cache, prefixes, scheduler)
        self._start_queues()

    def check(self, sequence: Sequence) -> None:
        """Refuse, before anything is computed, what `submit` would: ConfigError, ContextLengthError, EngineError."""
        self._require_alive()
        if sequence.state != "new":
            raise ConfigError("this sequence was submitted before; make a new one with the same prompt.")
        sequence.check(self.model.config, context=self.max_tokens)

    def submit(self, sequence: Sequence) -> Sequence:
        """Queue a new sequence; returns it. Raises as `check` does, and QueueFullError if `max_queue` are waiting."""
        self.check(sequence)
        with self._arriving:
            self._require_alive()
            waiting = self.stats().waiting
            if waiting >= self.max_queue:
                raise QueueFullError(
                    f"{waiting} sequences are waiting, as many as this engine lets wait (max_queue); try again when"
                    " some have ended."
                )
            sequence.arrival = self._arrivals
            self._arrivals += 1
            sequence.state = "waiting"
            self._arrived.append(sequence)
        self._settle()
        self._work.set()
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence and free what it holds: now, or after the step that is being computed. Never blocks."""
        if sequence.state in ("waiting", "running"):
            self._cancelled.append(sequence)
            self._settle()

    def step(self) -> list[tuple[Sequence, int]]:
        """Compute one forward pass, and return each id that was sampled; nothing if nothing is to be done.

        Raises EngineError if the engine has stopped, and whatever stops it now. An interruption from the keyboard does
        not: what was under way is computed again by the next step.
        """
        with self._exclusive():
            return self._step()

    def stream(self, sequence: Sequence) -> Iterator[int]:
        """Submit a sequence at the first `next`, and yield its ids as they are sampled; dropping this cancels it.

        Raises at the call what `check` does. Any number of streams may be read in turns, or each in its own thread.
        """
        self.check(sequence)
        return self._stream(sequence)

    def read(self, sequence: Sequence) -> Iterator[int]:
        """Yield the ids of a submitted sequence that were not read yet, as they come; computes them if no thread does.

        One reader a sequence. Raises what made the sequence fail, EngineError if the whole engine did, ConfigError for
        a sequence that was not submitted.
        """
        if sequence.state == "new":
            raise ConfigError("this sequence was not submitted, so no ids of it will come; call `submit` first.")
        while True:
            ended = sequence.state == "ended"  # looked at first: ids may come with the end
            while sequence.unread:
                token = sequence.next_unread()
                self._work.set()  # it may have been paused
                yield token
            if ended:
                break
            self._wait(sequence)
        if sequence.error is not None:
            if sequence.error is self.failure:
                self._require_alive()
            raise sequence.error

    def start(self) -> None:
        """Let a thread of its own drive the engine, until `stop`."""
        self._require_alive()
        if self._thread is None:
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="ossature-engine", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread after its step. Sequences stay as they are; who reads one now computes it."""
        thread = self._thread
        if thread is not None:
            self._stopping = True
            self._work.set()
            thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the thread and cancel what has not ended."""
        self.stop()
        with self._exclusive():
            self._drain()
            self._batcher.end_all("cancelled")

    def clear_prefixes(self) -> None:
        """Forget every cached prefix; blocks that no sequence holds are free then."""
        with self._exclusive():
            self._batcher.clear_prefixes()

    def stats(self) -> EngineStats:
        """Counters, also while a step is being computed."""
        stats = self._batcher.stats()
        return replace(stats, waiting=stats.waiting + len(self._arrived))

    def _start_queues(self) -> None:
        self._lock = threading.Lock()  # of the batcher; held for a whole step
        self._arriving = threading.Lock()  # of what `submit` decides
        self._arrived: deque[Sequence] = deque()
        self._cancelled: deque[Sequence] = deque()
        self._arrivals = 0
        self._progress = threading.Condition()  # told after every step, by whoever made it
        self._work = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def _stream(self, sequence: Sequence) -> Iterator[int]:
        self.submit(sequence)
        try:
            yield from self.read(sequence)
        finally:
            self.cancel(sequence)

    def _wait(self, sequence: Sequence) -> None:
        """Return when the sequence has new ids or has ended, or a step closer to that."""
        with self._progress:
            if self._thread is not None:
                self._progress.wait_for(lambda: _has_news(sequence) or self._thread is None)
                return
        with self._exclusive():
            if not _has_news(sequence):  # another reader's step may have brought some
                self._step()

    def _run(self) -> None:
        try:
            while True:
                self._work.clear()  # before looking: what comes from here on sets it again
                if self._stopping:
                    return
                self.step()
                if self._batcher.idle:
                    self._work.wait()
        except BaseException as error:
            notice(f"the engine has stopped: {type(error).__name__}: {error}")
        finally:
            with self._progress:
                self._thread = None
                self._progress.notify_all()

    def _step(self) -> list[tuple[Sequence, int]]:
        self._require_alive()
        try:
            self._drain()
            return self._batcher.step()
        except BaseException as error:
            if not self._batcher.intact:
                self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        with self._arriving:  # whoever submits now comes before, and fails too, or sees the failure
            self.failure = error
            self._drain()
        self._batcher.end_all("failed", error)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Scheduler and cache for one thread; what was cancelled meanwhile is dealt with at the end."""
        try:
            with self._lock:
                yield
        finally:
            self._settle()
            with self._progress:
                self._progress.notify_all()

    def _settle(self) -> None:
        """Deal with what has arrived or was cancelled, unless somebody holds the lock: who does will, after it."""
        while (self._cancelled or self._arrived) and self._lock.acquire(blocking=False):
            try:
                self._drain()
            finally:
                self._lock.release()
            with self._progress:
                self._progress.notify_all()

    def _drain(self) -> None:
        while self._arrived:
            sequence = self._arrived.popleft()
            if sequence.complete:  # no new tokens were asked for
                sequence.end("length")
            else:
                self._batcher.scheduler.add(sequence)
        while self._cancelled:
            sequence = self._cancelled.popleft()
            if sequence.state != "ended":
                self._batcher.scheduler.finish(sequence, "cancelled")

    def _require_alive(self) -> None:
        if self.failure is not None:
            raise EngineError(
                f"the engine has stopped: {type(self.failure).__name__}: {self.failure}. Make a new one."
            ) from self.failure


def _has_news(sequence: Sequence) -> bool:
    return sequence.unread > 0 or sequence.state == "ended"
