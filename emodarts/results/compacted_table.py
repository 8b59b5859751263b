"""One table of a compacted sweep: a large Parquet file, of which all rows are read, or those of a few trials."""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emodarts.errors import EmodartsError
from emodarts.results.schemas import TABLES, check_schema
from emodarts.storage import Storage

_BOUNDED = ("system", "study", "trial")  # columns of which each row group's least and greatest value decide


@dataclass(frozen=True)
class CompactedTable:
    """The file of the table `name` at `path`, a full path in the storage. Its footer is read once."""

    storage: Storage
    path: str
    name: str

    def read(self, columns: Sequence[str] | None, where: pc.Expression | None) -> pa.Table:
        """The rows for which `where` holds. Raises EmodartsError where they cannot be read."""
        try:
            chosen = None if columns is None else list(columns)
            table: pa.Table = self._dataset.to_table(columns=chosen, filter=where)
        except (pa.ArrowInvalid, OSError) as error:
            raise self._damage(error) from error
        return table

    def read_trials(
        self, system: str, study: str, trials: Collection[int], columns: Sequence[str] | None, where: pc.Expression
    ) -> Iterator[pa.Table]:
        """Those of some trials of a study, row group by row group; the other ones are not read. Raises as `read`.

        Texts stay the codes that they are in the file until the rows are chosen, which is most of the time that
        `read` would need for a few rows of a row group's hundred thousand.
        """
        schema, text = TABLES[self.name], str(where)  # it names every column of which it speaks
        needed = [n for n in schema.names if columns is None or n in columns or n in _BOUNDED or n in text]
        plain = pa.schema([schema.field(name) for name in needed])
        texts = [field.name for field in plain if field.type == pa.string()]
        holds = (pc.field("system") == system) & (pc.field("study") == study) & where
        wanted = sorted(trials)
        try:
            with self.storage.filesystem.open_input_file(self.path) as stream:
                file = pq.ParquetFile(
                    stream, metadata=self._metadata, read_dictionary=texts, pre_buffer=not self.storage.is_local
                )
                for place in self._row_groups_with(system, study, wanted):
                    rows = file.read_row_group(place, needed)
                    of_trials = rows.filter(pc.is_in(rows["trial"], pa.array(wanted, pa.int32())))
                    if len(chosen := of_trials.cast(plain).filter(holds)):
                        yield chosen if columns is None else chosen.select(list(columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise self._damage(error) from error

    def _row_groups_with(self, system: str, study: str, trials: Sequence[int]) -> Iterator[int]:
        """The row groups that may hold some of these trials, which are sorted."""
        for place, (systems, studies, numbers) in enumerate(self._bounds):
            if _may_hold(systems, system) and _may_hold(studies, study):
                first = 0 if numbers is None else bisect_left(trials, numbers[0])
                if first < len(trials) and _may_hold(numbers, trials[first]):
                    yield place

    @cached_property
    def _bounds(self) -> list[list[tuple[Any, Any] | None]]:
        """The least and the greatest value of each of `_BOUNDED` in each row group; None where the file has none."""
        metadata = self._metadata
        paths = [metadata.schema.column(place).path for place in range(metadata.num_columns)]
        places = [paths.index(column) for column in _BOUNDED]
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        statistics = [[group.column(place).statistics for place in places] for group in groups]
        return [[(s.min, s.max) if s is not None and s.has_min_max else None for s in row] for row in statistics]

    @cached_property
    def _metadata(self) -> Any:
        with self.storage.filesystem.open_input_file(self.path) as stream:
            metadata = pq.read_metadata(stream)
        check_schema(metadata.schema.to_arrow_schema(), self.name, self.path)
        return metadata

    @cached_property
    def _dataset(self) -> Any:
        import pyarrow.dataset as ds  # it imports pandas; small files are read without it

        format_ = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True))
        dataset = ds.dataset(self.path, filesystem=self.storage.filesystem, format=format_)
        check_schema(dataset.schema, self.name, self.path)
        return dataset

    def _damage(self, error: Exception) -> EmodartsError:
        return EmodartsError(f"{self.path} cannot be read as Parquet ({error}); restore it from a copy")


def _may_hold(bounds: tuple[Any, Any] | None, value: Any) -> bool:
    return bounds is None or bounds[0] <= value <= bounds[1]
