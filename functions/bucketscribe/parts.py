"""Parts: how large they are, and whether a caller's list is what the bucket holds.

Limits from the S3 user guide, "Amazon S3 multipart upload limits": up to 10,000 parts, each but the last of
at least 5 MiB. S3 itself completes a list with gaps, and SeaweedFS one that names a part's old version.
"""

from collections.abc import Sequence

from .bucket import Part as HeldPart
from .errors import Problem
from .records import Part, Record

MIB = 1024**2
DEFAULT_PART_BYTES = 8 * MIB
MIN_PART_BYTES = 5 * MIB
MAX_PARTS = 10_000


def default_part_size(size: int) -> int:
    """Bytes in a part: 8 MiB, more only where that would make over 10,000 parts; whole MiB."""
    return max(DEFAULT_PART_BYTES, -(-size // (MAX_PARTS * MIB)) * MIB)


def bytes_held(held: Sequence[HeldPart]) -> int:
    """Bytes of all parts; of two versions of one, which nobody can tell apart, the smaller counts."""
    sizes: dict[int, int] = {}
    for part in held:
        sizes[part.number] = min(part.size, sizes.get(part.number, part.size))
    return sum(sizes.values())


def check_parts(record: Record, asked: Sequence[Part], held: Sequence[HeldPart]) -> None:
    """See that a list of parts is 1…n, is what the bucket holds, and adds up. Raises `invalid_part`."""

    def refuse(detail: str, number: int | None = None) -> Problem:
        where = {} if number is None else {"partNumber": number}
        return Problem("invalid_part", f"{detail} Put that right and complete the upload again.", where)

    if not asked:
        raise refuse("No parts are listed.")
    for position, part in enumerate(asked, start=1):
        if part.number != position:
            raise refuse(
                f"Parts must be listed as 1, 2, 3 … without gaps; {part.number} stands in place {position}.",
                part.number,
            )
    sizes: dict[int, int] = {}
    etags = {(part.number, _bare(part.etag)): part.size for part in held}
    numbers = {part.number for part in held}
    for part in asked:
        size = etags.get((part.number, _bare(part.etag)))
        if size is None:
            known = part.number in numbers
            raise refuse(
                f"Part {part.number} in the bucket has another ETag; upload it again."
                if known
                else f"Part {part.number} is not in the bucket; upload it.",
                part.number,
            )
        sizes[part.number] = size
    if left_out := sorted(numbers - set(sizes)):
        raise refuse(f"The bucket holds part {left_out[0]}, which the list leaves out.", left_out[0])
    for number, size in sizes.items():
        if size < MIN_PART_BYTES and number != len(asked):
            raise refuse(f"Part {number} has {size} bytes; all but the last need {MIN_PART_BYTES}.", number)
    if record.size is not None and sum(sizes.values()) != record.size:
        raise refuse(f"The parts add up to {sum(sizes.values())} bytes; {record.size} were declared.")


def _bare(etag: str) -> str:
    return etag.strip('"')
