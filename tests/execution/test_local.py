import pytest

from catimage.execution.local import LocalExecutor


def double(shard, progress):
    progress(shard)
    return 2 * shard


def test_map_returns_the_results_in_order():
    with LocalExecutor("test", images=6) as executor:
        assert executor.map(double, [3, 1, 2]) == [6, 2, 4]
        assert executor.map(double, []) == []


def test_the_bar_counts_finished_images(capsys):
    with LocalExecutor("test", images=10, finished=4) as executor:
        executor.map(double, [1, 2])
    assert "7/10" in capsys.readouterr().err


def test_an_exception_of_the_function_ends_the_iteration():
    calls = []

    def fail(shard, progress):
        calls.append(shard)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), LocalExecutor("test", images=2) as executor:
        executor.map(fail, [1, 2])
    assert calls == [1]
