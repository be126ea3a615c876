"""The errors that bale raises on purpose. Everything else that escapes is the user's own exception, with a note."""


class BaleError(Exception):
    """Base of bale's errors: what was given, what was expected, which sample and line, and what to do."""


class TraceError(BaleError):
    """A per-sample forward did something to a lazy value that a recorded computation cannot mean."""


class ValueReadError(TraceError):
    """A per-sample forward asked for the numbers inside a lazy value (`.item()`, `bool()`, `.tolist()`, `.numpy()`)."""


class CellError(BaleError):
    """A module marked or needed as a cell cannot be run for many nodes at once."""


class CheckError(BaleError):
    """A batched model and its per-sample run differ; the message names the first cell, output or gradient."""


class ScheduleError(BaleError):
    """A schedule does not run its graph: a node left over, run twice, or run before its operands."""


class PQTreeError(BaleError):
    """Leaves that a PQ-tree does not have, or that repeat where each may come once."""


class PolicyError(BaleError):
    """A learned policy that is damaged, of another version, or of another network than it is asked to schedule."""


class DataError(BaleError):
    """Input that a reader cannot understand; the message begins with file:line:column."""


class ChipError(BaleError):
    """A chip's field that is misspelt, missing, or out of its range; the message begins with the field."""


class MappingError(BaleError):
    """A network that cannot be laid on a chip, or run on it; the message names the layer."""


class CompressionError(BaleError):
    """A model that cannot be compressed as asked, or a packed file that is damaged; the message names layer or file."""


class CheckpointError(BaleError):
    """A checkpoint that is missing, damaged, or of another model or run."""


class VideoError(BaleError):
    """A stream, a detector or its worker that cannot go on; the message names the frame, the file or the setting."""
