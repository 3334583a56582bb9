"""Guesses at what a sequence will say next, from what it has said and been told: free of a second model, often right.

Code, tables and quotations repeat themselves. The last few ids are looked for earlier in the sequence, and what
followed them there is proposed; one forward pass then computes all proposals, and those that the sampler would have
chosen anyway are taken. The draw of a step depends on seed and step alone, so the text is the same with and without.
"""

from array import array

__all__ = ["MOST", "Drafter"]

MOST = 8  # ids proposed at once, at most: beyond, a wrong guess costs more than a right one saves
SHORTEST, LONGEST = 3, 8  # ids that must agree before what follows is proposed; where several fit, the longest
PAYS = 0.4  # share of the proposals that must come true: on packed experts a row costs about this part of a step
REST = 64  # ids sampled without proposals after that share was missed

_WIDTH = array("I").itemsize


class Drafter:
    """Proposals for one sequence, as long as they come true often enough to pay for their rows."""

    def __init__(self) -> None:
        self._stored = bytearray()  # the ids as machine words: finding some in them is one search in memory
        self._most = 2
        self._share = 1.0  # of the proposals that came true, the last ones weighing most
        self._resting_until = 0

    def draft(self, ids: list[int], most: int) -> list[int]:
        """At most `most` ids that may follow `ids`, which only grows; empty where nothing fits or it does not pay."""
        most = min(most, self._most)
        if most < 1 or len(ids) < self._resting_until:
            return []
        self._stored += array("I", ids[len(self._stored) // _WIDTH :]).tobytes()
        at = self._after_longest_match()
        if at is None:
            return []
        proposed: list[int] = []
        for place in range(at, at + most):  # a match that reaches the end goes on into what is proposed: a cycle
            proposed.append(ids[place] if place < len(ids) else proposed[place - len(ids)])
        return proposed

    def learn(self, proposed: int, accepted: int, *, length: int) -> None:
        """Take in how many of the proposals came true; `length` is that of the sequence now."""
        self._share = 0.75 * self._share + 0.25 * accepted / proposed
        self._most = min(MOST, 2 * self._most) if accepted == proposed else max(1, accepted)
        if self._share < PAYS:
            self._share = (1 + PAYS) / 2  # after the rest it has to fail again, not to succeed first
            self._resting_until = length + REST

    def _after_longest_match(self) -> int | None:
        if self._after_match(SHORTEST) is None:  # nearly always: then one search is all
            return None
        matches = (self._after_match(length) for length in range(LONGEST, SHORTEST - 1, -1))
        return next(at for at in matches if at is not None)

    def _after_match(self, length: int) -> int | None:
        """Index behind the latest earlier place of the last `length` ids."""
        if len(self._stored) <= length * _WIDTH:
            return None
        wanted = self._stored[-length * _WIDTH :]
        end = len(self._stored) - _WIDTH
        while (at := self._stored.rfind(wanted, 0, end)) % _WIDTH and at > 0:
            end = at + len(wanted) - 1  # found across two ids
        return None if at < 0 else at // _WIDTH + length
