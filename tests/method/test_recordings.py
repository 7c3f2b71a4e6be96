"""Is what rows share with their recording told apart from what they are, and taken away?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from planted import tiny_settings
from seehear.config import override
from seehear.method.agreement import nmi
from seehear.method.clusters import Space, cluster_features
from seehear.method.features import Features
from seehear.method.recordings import LEAST_ROWS, Centring, Recordings, Spread

EVENTS, WIDTH = 6, 16


def scene(rows_each: int, strength: float, rows: int = 720, seed: int = 0):
    """Features of events in recordings, each with an offset of its own; recording and event."""
    draws = np.random.default_rng(seed)
    event_N = draws.integers(EVENTS, size=rows)
    recording_N = np.repeat(np.arange(rows // rows_each), rows_each).astype(np.int32)
    offsets = draws.normal(size=(len(recording_N), WIDTH)) * strength
    x_ND = draws.normal(size=(EVENTS, WIDTH))[event_N] + offsets[recording_N]
    x_ND += draws.normal(size=x_ND.shape) * 0.3 + 5
    return torch.from_numpy(x_ND.astype(np.float32)), recording_N, event_N.astype(np.int32)


def found(x_ND, recording_N, centre, k=EVENTS * 2):
    cfg = override(tiny_settings(), {"cluster.centre": centre, "cluster.num_clusters": k})
    features = Features(np.arange(len(x_ND)), {"video": x_ND})
    return cluster_features(features, recording_N, cfg, "cpu", 0, ["video"])["video"]


def test_variance_is_divided_as_an_analysis_of_variance_does():
    x_ND, recording_N, _ = scene(5, 1.0)
    spread = Spread.of(x_ND, recording_N)
    x = x_ND.double().numpy()
    means = np.stack([x[recording_N == r].mean(axis=0) for r in range(144)])
    within = ((x - means[recording_N]) ** 2).sum()
    between = 5 * ((means - x.mean(axis=0)) ** 2).sum()
    assert (spread.rows, spread.recordings, spread.most) == (720, 144, 5)
    assert spread.within == pytest.approx(within)
    assert spread.between == pytest.approx(between)


def test_without_recordings_the_share_is_what_chance_gives():
    shares = [Spread.of(*scene(4, 0.0, seed=seed)[:2]) for seed in range(8)]
    assert np.mean([s.share for s in shares]) == pytest.approx(shares[0].chance, abs=0.01)
    alone = Spread.of(scene(1, 1.0)[0], np.arange(720))
    assert (alone.share, alone.chance, alone.most) == (pytest.approx(1), 1, 1)


@pytest.mark.parametrize("centre", ["auto", "recording"])
def test_clusters_follow_events_where_recordings_are_louder(centre):
    x_ND, recording_N, event_N = scene(6, 5.0)
    assert nmi(found(x_ND, recording_N, "all").labels_N, event_N) < 0.2
    assert nmi(found(x_ND, recording_N, centre).labels_N, event_N) > 0.5


def test_labels_stay_when_a_constant_is_added_to_each_recording():
    x_ND, recording_N, _ = scene(6, 1.0)
    moved = x_ND + 8 * torch.randn(120, WIDTH, generator=torch.manual_seed(0))[recording_N]
    before, after = (found(x, recording_N, "recording").labels_N for x in (x_ND, moved))
    assert np.mean(before == after) > 0.99  # a sum in float32 rounds
    assert nmi(*(found(x, recording_N, "all").labels_N for x in (x_ND, moved))) < 0.9


@pytest.mark.parametrize("rows_each", [2, 3])
def test_auto_takes_nothing_from_so_few_rows_that_their_mean_is_their_events(rows_each):
    """The mean of two rows is half of what they are: taking all of it costs more than it brings."""
    x_ND, recording_N, event_N = scene(rows_each, 0.0)
    all_N, auto_N, own_N = (
        found(x_ND, recording_N, centre).labels_N for centre in ("all", "auto", "recording")
    )
    assert np.array_equal(all_N, auto_N)
    assert nmi(auto_N, event_N) > nmi(own_N, event_N) + 0.1
    assert not any(found(x_ND, recording_N, "auto").space.centrings)


def test_auto_takes_the_means_of_recordings_of_four_rows_and_more_alone():
    x_ND, recording_N, _ = scene(LEAST_ROWS, 1.0)
    recording_N = np.where(np.arange(len(x_ND)) < 3, 1000, recording_N)  # three rows of 1000
    auto, own = (
        Centring.fit(Spread.of(x_ND, recording_N), centre) for centre in ("auto", "recording")
    )
    one_ND, other_ND = auto(x_ND, recording_N), own(x_ND, recording_N)
    assert torch.equal(one_ND[:4], x_ND[:4])  # the fourth is alone now
    assert torch.equal(one_ND[4:], other_ND[4:])
    assert not torch.equal(other_ND[:3], x_ND[:3])


def test_one_row_a_recording_is_the_same_as_no_recordings():
    x_ND, _, _ = scene(1, 1.0)
    alone = np.arange(len(x_ND), dtype=np.int32)
    labels = [found(x_ND, alone, centre).labels_N for centre in ("all", "auto", "recording")]
    assert all(np.array_equal(labels[0], other) for other in labels)
    assert not any(found(x_ND, alone, "recording").space.centrings)


def test_a_row_that_is_alone_of_its_recording_is_compared_with_all_rows():
    x_ND, recording_N, _ = scene(6, 1.0)
    recording_N = np.append(recording_N[:-1], 120).astype(np.int32)
    centring = Centring.fit(Spread.of(x_ND, recording_N), "recording")
    out_ND = centring(x_ND, recording_N)
    assert torch.equal(out_ND[-1], x_ND[-1])
    torch.testing.assert_close(out_ND[:6].mean(0).double(), centring.mean_D, atol=1e-5, rtol=1e-5)


def test_many_recordings_are_added_up_in_blocks_with_the_same_result(monkeypatch):
    x_ND, recording_N, _ = scene(3, 1.0)
    centring = Centring(x_ND.double().mean(0), 2)
    whole, spread = centring(x_ND, recording_N), Spread.of(x_ND, recording_N)
    monkeypatch.setattr("seehear.method.recordings.BLOCK_RECORDINGS", 7)
    monkeypatch.setattr("seehear.method.recordings.CHUNK_ROWS", 5)
    assert torch.equal(centring(x_ND, recording_N), whole)
    assert Spread.of(x_ND, recording_N).within == pytest.approx(spread.within)
    mixed = np.random.default_rng(0).permutation(len(x_ND))
    again = centring(x_ND[mixed], recording_N[mixed])
    torch.testing.assert_close(again, whole[mixed])


@pytest.mark.parametrize("centre", ["recording", "auto"])
def test_rows_that_come_in_blocks_are_centred_as_rows_that_are_all_here(centre):
    x_ND, recording_N, _ = scene(4, 1.0)
    mixed = np.random.default_rng(0).permutation(len(x_ND))
    x_ND, recording_N = x_ND[mixed], 7 + 3 * recording_N[mixed]  # numbers need not follow
    recording_N[5] = 10_000  # one that is alone
    centring = Centring.fit(Spread.of(x_ND, recording_N), centre)
    rows = np.array_split(np.arange(len(x_ND)), 9)
    blocks = [(part, {"video": x_ND[part]}) for part in rows]
    recordings = Recordings.of(recording_N, blocks, {"video": centring})
    found = torch.cat([recordings.without(*block)["video"] for block in blocks])
    torch.testing.assert_close(found, centring(x_ND, recording_N))
    assert torch.equal(found[5], x_ND[5])
    other = {"audio": x_ND[:3]}
    assert recordings.without(np.arange(3), other)["audio"] is other["audio"]


def test_a_fitted_space_prepares_new_recordings_by_their_own_means_also_after_saving():
    x_ND, recording_N, _ = scene(6, 3.0)
    spread = Spread.of(x_ND, recording_N)
    space = Space.fit([x_ND], "l2", recording_N, [spread], "recording")
    again = Space.from_state_dict(space.state_dict())
    new, of_new, _ = scene(6, 3.0, rows=60, seed=1)
    prepared = again([new], of_new)
    assert torch.equal(prepared, space([new], of_new))
    shifted = new + torch.randn(10, WIDTH, generator=torch.manual_seed(1))[of_new]
    torch.testing.assert_close(again([shifted], of_new), prepared, atol=1e-4, rtol=1e-3)
    expected = (new - x_ND.mean(0)) / (new - x_ND.mean(0)).norm(dim=1, keepdim=True)
    torch.testing.assert_close(again([new]), expected, atol=1e-4, rtol=1e-3)  # none is known
