"""Files of the program: written whole or not at all, with checksums, under a lock that dies with its process."""

from .array_files import load_arrays, save_arrays
from .code_files import CodeFile, check_same_code, describe_label
from .fingerprints import fingerprint
from .folder_lock import folder_lock
from .row_cache import RowCache, cache_folder, open_rows
from .whole_files import check_can_write, remove_left_overs, write_whole, written_whole

__all__ = [
    "CodeFile",
    "RowCache",
    "cache_folder",
    "check_can_write",
    "check_same_code",
    "describe_label",
    "fingerprint",
    "folder_lock",
    "load_arrays",
    "open_rows",
    "remove_left_overs",
    "save_arrays",
    "write_whole",
    "written_whole",
]
