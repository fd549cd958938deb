import numpy as np
from bench import reading
from bench.beats import tiled_beats, write_parquet
from bench.reading import CACHED, NAIVE, OURS, READERS, read_in_child

from hbcomp.competitions.competition import load_competition
from hbcomp.data.reader import read_dataset
from hbcomp.data.synthetic import make_rows, write_competition_csv


def test_the_naive_reader_and_ours_read_the_same_beats(tmp_path):
    dataset = make_rows(n=20, t=16)
    write_competition_csv(tmp_path / "beats.csv", dataset)
    for make_reader in READERS.values():
        signals, labels = make_reader()(tmp_path / "beats.csv")
        assert np.array_equal(signals.astype(np.float32), dataset.flat)
        assert np.array_equal(labels, dataset.known_labels)


def test_a_second_read_finds_the_cache_of_the_first(tmp_path):
    write_competition_csv(tmp_path / "beats.csv", make_rows(n=20, t=16))
    cache = tmp_path / "cache"
    for _ in range(2):
        done = read_in_child("ours", tmp_path / "beats.csv", cache)
        assert done.n_rows == 20
        assert 0 < done.imports_mib <= done.peak_mib
        assert len(list(cache.glob("*.npys"))) == 1


def test_every_round_reads_afresh_and_then_from_the_cache(monkeypatch, tmp_path):
    calls = []

    def read(reader, path, cache):
        calls.append((reader, cache.name))
        return reading.Reading(seconds=1.0, imports_mib=10.0, peak_mib=20.0, n_rows=20)

    monkeypatch.setattr(reading, "read_in_child", read)
    readings = reading._read_all(tmp_path / "beats.csv")
    ours = [cache for reader, cache in calls if reader == "ours"]
    assert ours == ["cache-0", "cache-0", "cache-1", "cache-1", "cache-2", "cache-2"]
    assert [reader for reader, _ in calls] == ["naive", "ours", "ours"] * 3
    numbers = {"n_rows": 20, "file_mb": 0.1, **reading._summary(readings)}
    assert {row[0] for row in reading.tables(numbers)[0].rows} == {NAIVE, OURS, CACHED}


def test_tiled_beats_survive_parquet(tmp_path):
    dataset = tiled_beats(50)
    write_parquet(tmp_path / "beats.parquet", dataset)
    again = read_dataset(tmp_path / "beats.parquet", load_competition().file.data, labelled=True)
    assert again.fingerprint == dataset.fingerprint
