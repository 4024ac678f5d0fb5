"""Which photographs of a camera are one bracket, by the times and exposures in EXIF.

The sequence is looked at as a whole: of all ways to cut it into brackets, bursts and single photographs, the cheapest one
counts. A bracket costs 1. It costs more if exposures come twice, if they are unevenly spaced, if it begins anew within (such as
0 -2 +2 0 -2 +2), if the camera says that only a part of it is automatic bracketing, or if the camera paused within; it costs
less if it repeats the exposures of other brackets. The prices are chosen so that

    0 -2 +2 0 -2 +2         are two brackets
    -6 -6 -4 -2 0 +2 +4     is one (the shortest time of the camera came twice)
    0 -2 +2 0               is one, and a single photograph
    0 0 0 0 0 -2 +2         is a burst, and a bracket

Where EXIF says how far the camera was set off its own exposure (ExposureBiasValue), that counts for what comes twice. The notes
of the makers are not read: a frame's number in its bracket stands in those of few cameras that a library can read.
"""

import dataclasses
import math
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np

from hdr_tf.io import image_files
from hdr_tf.io.image_files import Capture

GAP = 4.0  # seconds, at most, between two exposures of a bracket
STEP = 0.25  # stops, at least, between two exposures of a bracket: cameras have steps of a third and more

_PAUSE = 60.0  # seconds after which a bracket in a folder of its own is over, if there is another one
_LONGEST = 16  # frames
_SINGLE, _BURST, _PAIR = 0.6, 0.6, 1.05  # what they cost; a bracket of more than two costs 1
_NEIGHBOUR, _DISTANT = 0.3, 0.8  # an exposure that comes again, at once or later
_UNEVEN, _EVENLY = 0.5, 0.3  # unevenly spaced exposures, and the stops within which they are even
_MIXED = 0.63  # bracketing and not
_ANEW = 0.5
_PAUSED, _USUAL_PAUSE = 0.3, 2.0  # a pause of more than so many seconds and of 2.5 times the usual
_KNOWN = -0.35  # the exposures of other brackets


@dataclasses.dataclass
class Group:
    """Files that are one bracket."""

    captures: list[Capture]  # in the order of capture
    problem: str = ""  # what is missing, a line that begins with a path
    lost: list[pathlib.Path] = dataclasses.field(default_factory=list)  # files that belong here and cannot be used


class Groups(NamedTuple):
    """A sequence of one camera, cut into what belongs together."""

    brackets: list[list[Capture]]  # of two or more
    incomplete: list[list[Capture]]  # brackets with fewer frames than they should have
    alone: list[Capture]  # single photographs and bursts


@overload
def group_files(paths: Sequence[pathlib.Path], frames: int | None = None) -> tuple[list[Group], list[pathlib.Path]]: ...


@overload
def group_files(
    paths: Sequence[pathlib.Path], frames: int | None = None, *, folder: bool
) -> tuple[list[Group], list[pathlib.Path]] | None: ...


def group_files(
    paths: Sequence[pathlib.Path], frames: int | None = None, *, folder: bool = False
) -> tuple[list[Group], list[pathlib.Path]] | None:
    """Groups photographs by what EXIF says, each camera (maker, model, serial number) and size by itself.

    A file that cannot be used is `lost` to a bracket if it lies within it by its time, and if it has none, if its number says
    so: between two of them, or next to one if all brackets do not have the same number of frames anyway.

    Args:
        frames: how many a bracket has; None: whatever the sequence suggests.
        folder: whether the files are the whole of a folder of their own, see `group_of_folder`.

    Returns:
        The groups, of which only those with a problem may have a single frame, in the order of capture, and the other files; or
        None if all files of a `folder` are one bracket.
    """
    sequences, timed, others = {}, [], []
    for path in paths:
        try:
            capture = image_files.read_capture(path)
        except (ValueError, OSError) as error:
            others.append((path, str(error)))
            continue
        if capture.time is None:
            others.append((path, ""))
        elif capture.exposure is None:
            timed.append(capture)
        else:
            sequences.setdefault((capture.camera, capture.size), []).append(capture)
    if folder:
        cut = [group_of_folder(captures, frames) for captures in sequences.values()]
        several = sum(len(captures) > 1 and not _is_burst(captures) for captures in sequences.values()) > 1
        if not several and not any(cut):
            return None
        cut = [part or Groups([captures], [], []) for part, captures in zip(cut, sequences.values(), strict=True)]
    else:
        cut = [group(captures, frames) for captures in sequences.values()]
    groups = [Group(bracket) for part in cut for bracket in part.brackets if len(bracket) > 1]
    for bracket in (bracket for part in cut for bracket in part.incomplete):
        first, last = bracket[0].path, bracket[-1].path.name
        groups.append(Group(bracket, f"{first}: expected {frames} frames (--frames), found {len(bracket)} up to {last}"))
    alone = [capture for part in cut for capture in part.alone]
    alone += [captures[0] for captures, part in zip(sequences.values(), cut, strict=True) if part.brackets == [captures[:1]]]
    _lose_by_time(groups, alone, timed)
    _lose_by_number(groups, others)
    groups.sort(key=lambda group: (group.captures[0].time, group.captures[0].path.name))
    used = {path for group in groups for path in (*(capture.path for capture in group.captures), *group.lost)}
    return groups, sorted({*paths} - used)


def _lose(group, path, reason):
    group.problem = group.problem or f"{path}: belongs to the bracket of {group.captures[0].path.name}, but {reason}"
    group.lost.append(path)


def _lose_by_time(groups, alone, timed):
    """Gives photographs without an exposure, and those of another size, to the brackets that they were captured with."""
    for capture in timed:
        near = [(_distance(capture, group), number) for number, group in enumerate(groups) if _same_camera(capture, group)]
        distance, number = min(near, default=(math.inf, -1))
        if distance > GAP:
            singles = [Group([single]) for single in alone]
            near = [(_distance(capture, single), i) for i, single in enumerate(singles) if _same_camera(capture, single)]
            distance, number = min(near, default=(math.inf, -1))
            if distance > GAP:
                continue
            groups.append(singles[number])
            del alone[number]
            number = -1
        _lose(groups[number], capture.path, "EXIF gives no exposure")
    for capture in alone:
        for group in groups:
            first, last = group.captures[0], group.captures[-1]
            differs = capture.camera == first.camera and capture.size != first.size
            if differs and first.time <= capture.time <= last.time:
                _lose(group, capture.path, "has another size")
                break


def _same_camera(capture, group):
    return capture.camera == group.captures[0].camera or capture.camera == (None, None, None)


def _distance(capture, group):
    """Seconds between a capture and a bracket, 0 within it."""
    first, last = group.captures[0], group.captures[-1]
    return max(first.time - capture.time - 2 * capture.seconds, capture.time - last.time - 2 * last.seconds, 0)


def _lose_by_number(groups, others):
    """Gives files that cannot be read or have no date to the brackets that their numbers lie in."""
    places = {}  # of each numbered file the bracket
    for group in groups:
        for path in (*(capture.path for capture in group.captures), *group.lost):
            places[_number(path)] = group
    sizes = [len(group.captures) for group in groups]
    for path, error in others:
        prefix, number = _number(path)
        before, after = (places.get((prefix, number + step)) for step in (-1, 1)) if number is not None else (None, None)
        within = before is not None and before is after
        if not error and not within:
            continue  # a readable file without a date, such as another picture
        candidates = [group for group in (before, after) if group is not None]
        if not within and len(groups) > 1:  # next to a bracket: one that is shorter than the others
            candidates = [group for group in candidates if len(group.captures) + len(group.lost) < max(sizes)]
        if candidates:
            reason = f"cannot be read: {error.removeprefix(f'{path}: ')}" if error else "EXIF gives no date"
            _lose(candidates[0], path, reason)
            places[prefix, number] = candidates[0]


def _number(path):
    """What stands before the last number in a name, and the number; None without one."""
    found = re.fullmatch(r"(.*?)(\d{1,12})\D*", path.stem)
    return (found[1].casefold(), int(found[2])) if found else (path.stem.casefold(), None)


def group(captures: Sequence[Capture], frames: int | None = None) -> Groups:
    """Groups photographs of one camera and size, all with time and exposure.

    Between two exposures of a bracket are at most `GAP` seconds (plus twice the first one's exposure time, for the camera's
    dark frame), unless `frames` divides the sequence and its parts do not.

    Args:
        captures: in any order.
        frames: how many a bracket has; None: whatever the sequence suggests.
    """
    captures = sorted(captures, key=lambda capture: (capture.time, capture.path.name))
    parts = _parts(captures)
    if frames and len(captures) % frames == 0 and any(len(part) % frames for part in parts):
        parts = [captures]
    costs = [_costs(part, frames) for part in parts]
    found = [_cut(*both) for both in zip(parts, costs, strict=True)]
    known = None if frames else _common(parts, found)
    if known:
        found = [_cut(*both, known) for both in zip(parts, costs, strict=True)]
    pieces = [piece for cut in found for piece in cut]
    brackets = [piece for piece in pieces if len(piece) > 1 and not _is_burst(piece)]
    alone = [capture for piece in pieces if len(piece) == 1 or _is_burst(piece) for capture in piece]
    incomplete = [piece for piece in brackets if frames and len(piece) < frames]
    return Groups([piece for piece in brackets if piece not in incomplete], incomplete, alone)


def group_of_folder(captures: Sequence[Capture], frames: int | None = None) -> Groups | None:
    """Groups the photographs of one camera and size in a folder of their own; None if all of them are one bracket.

    There, time alone does not part a bracket that was exposed by hand. What does are exposures that come again, the same steps
    in several parts of the sequence, and a long pause between two brackets.
    """
    groups = group(captures, frames)
    if frames:
        return groups if len(captures) != frames else None
    if len(groups.brackets) < 2:
        return None
    captures = sorted(captures, key=lambda capture: (capture.time, capture.path.name))
    if any(abs(_stops(captures[i]) - _stops(captures[j])) < STEP for i in range(len(captures)) for j in range(i)):
        return groups
    patterns = [_pattern(bracket) for bracket in groups.brackets if len(bracket) > 2]
    pause = max(_pause(*pair) for pair in zip(captures[:-1], captures[1:], strict=True))
    same = any(_alike(patterns[i], patterns[j]) for i in range(len(patterns)) for j in range(i))
    return groups if same or pause > _PAUSE and not groups.alone else None


def _stops(capture):
    return math.log2(capture.exposure)


def _pause(first, second):
    return second.time - first.time - 2 * first.seconds


def _parts(captures):
    """The sequence, cut where the camera paused."""
    parts = []
    for capture in captures:
        if parts and _pause(parts[-1][-1], capture) <= GAP:
            parts[-1].append(capture)
        else:
            parts.append([capture])
    return parts


def _costs(captures, frames):
    """Of all pieces that may end with a capture: where they begin, and what they cost."""
    stops = [_stops(capture) for capture in captures]
    before = [_last(captures, stops, i) for i in range(len(stops))]
    costs = []
    for end in range(1, len(captures) + 1):
        starts = range(max(0, end - max(_LONGEST, frames or 0)), end)
        costs.append([(i, _cost(captures[i:end], stops[i:end], [j - i for j in before[i:end]], frames)) for i in starts])
    return costs


def _cut(captures, costs, known=None):
    """The cheapest way to cut a sequence; of ways that cost the same, the one whose last piece is shortest. `known` is the
    pattern of a bracket that is cheaper."""
    stops = [_stops(capture) for capture in captures]
    best = [(0.0, 0)]  # of the first n captures: cost, and where the last piece begins
    for end, pieces in enumerate(costs, 1):
        options = []
        for start, cost in pieces:
            if known and end - start == len(known) and _alike([stop - stops[start] for stop in stops[start:end]], known):
                cost += _KNOWN
            options.append((round(best[start][0] + cost, 6), -start))
        cost, start = min(options)
        best.append((cost, -start))
    pieces, end = [], len(captures)
    while end:
        start = best[end][1]
        pieces.append(captures[start:end])
        end = start
    return _joined(pieces[::-1])


def _joined(pieces):
    """Bursts that were cut only because they are long are one."""
    joined = []
    for piece in pieces:
        if joined and _is_burst(piece) and _is_burst(joined[-1]) and _is_burst(joined[-1] + piece):
            joined[-1] = joined[-1] + piece
        else:
            joined.append(piece)
    return joined


def _last(captures, stops, i):
    """The index of the last capture before `i` with the same exposure, -1 if there is none nearby.

    Where the camera says how far it was set off its own exposure, that counts: the setting comes again after another one,
    though the light has changed, and exposures of different settings are not the same, though the shortest time came twice.
    """
    changed = False
    for j in range(i - 1, max(-1, i - 1 - _LONGEST), -1):
        same, settings = abs(stops[i] - stops[j]) < STEP, (captures[i].bias, captures[j].bias)
        if None not in settings:
            differ = abs(settings[0] - settings[1]) >= STEP
            same, changed = not differ and (same or changed), changed or differ
        if same:
            return j
    return -1


def _cost(captures, stops, before, frames):
    """Of a piece; `before` has the index of the last equal exposure for each, below 0 if it is not in the piece."""
    count = len(captures)
    if count == 1:
        return _SINGLE if not frames else 1.5
    if max(_steps(stops)) < STEP:  # a burst; two equal photographs are two single ones
        return _BURST if count > 2 else 2 * _SINGLE
    if frames and count > frames:
        return math.inf
    cost = 1.0 if count > 2 or frames else _PAIR
    if frames and count < frames:
        cost += 1
    cost += sum(_NEIGHBOUR if last == i - 1 else _DISTANT for i, last in enumerate(before) if last >= 0)
    if cost > count and not frames:  # single photographs are cheaper
        return cost
    steps = [step for step in _steps(stops) if step >= STEP]
    if max(steps) - min(steps) > _EVENLY:
        cost += _UNEVEN
    if len({capture.bracketing for capture in captures} - {None}) > 1:
        cost += _MIXED
    pauses = [second.time - first.time - first.seconds for first, second in zip(captures[:-1], captures[1:], strict=True)]
    if count > 2 and (longest := max(pauses)) > _USUAL_PAUSE and longest > 2.5 * max(sorted(pauses)[-2], 0.1):
        cost += _PAUSED
    if times := _begins_anew(stops):
        cost = max(cost, times + _ANEW)
    return cost


def _begins_anew(stops):
    """How often the same steps follow each other, 0 if they do not or if the sequence goes one way."""
    steps = [second - first for first, second in zip(stops[:-1], stops[1:], strict=True)]
    if all(step > -STEP for step in steps) or all(step < STEP for step in steps):
        return 0
    for period in range(2, len(stops) // 2 + 1):
        times, rest = divmod(len(stops), period)
        if rest or period == 2 and times < 3:
            continue
        relative = [[stop - stops[start] for stop in stops[start : start + period]] for start in range(0, len(stops), period)]
        if all(abs(a - b) < STEP for part in relative for a, b in zip(part, relative[0], strict=True)):
            return times
    return 0


def _steps(stops):
    """Between neighbours in brightness."""
    stops = sorted(stops)
    return [second - first for first, second in zip(stops[:-1], stops[1:], strict=True)]


def _is_burst(captures):
    """Whether the exposures are equal, or drift as automatic ones do."""
    return max(_steps(map(_stops, captures)), default=0) < STEP


def _pattern(captures):
    """The stops of a bracket, from its first exposure."""
    return [_stops(capture) - _stops(captures[0]) for capture in captures]


def _alike(first, second):
    return len(first) == len(second) and all(abs(a - b) < STEP for a, b in zip(first, second, strict=True))


def _common(parts, found):
    """The pattern that comes most often, None if none comes twice. A piece may have a photograph before or after it."""
    stops = np.array([_stops(capture) for part in parts for capture in part])
    part = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    patterns, tried = {}, {}  # by length, for each capture: of the piece that begins there, and whether one alike was tried
    best, most, begin = None, 1, 0
    for piece in (piece for pieces in found for piece in pieces):
        count = len(piece)
        for first, length in ((begin, count), (begin + 1, count - 1), (begin, count - 1)):
            if length < 3 or max(_steps(stops[first : first + length])) < STEP:
                continue
            if length not in patterns:
                windows = np.lib.stride_tricks.sliding_window_view(stops, length)
                within = part[: len(windows)] == part[length - 1 :]  # nan is like nothing
                patterns[length] = np.where(within[:, None], windows - windows[:, :1], np.nan)
                tried[length] = np.zeros(len(windows), bool)
            if tried[length][first]:
                continue
            pattern = patterns[length][first]
            alike = (np.abs(patterns[length] - pattern) < STEP).all(axis=1)
            tried[length] |= alike
            times = _apart(np.flatnonzero(alike), length)
            if times > most:
                best, most = pattern.tolist(), times
        begin += count
    return best


def _apart(begins, length):
    """How many pieces that begin there do not overlap, counted from the first one."""
    count = end = 0
    for begin in begins:
        if begin >= end:
            count, end = count + 1, begin + length
    return count
