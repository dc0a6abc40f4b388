from __future__ import annotations

import pytest

from bench.noise import MachineTime, Noise, NoiseWatch, judge, parse_machine_time

QUIET = [0.010, 0.010, 0.0101, 0.0102]


def judged(
    *, busy_s: float = 10.0, stolen_s: float = 0.0, own_s: float = 10.0, samples_s: list[float]
) -> Noise:
    start = MachineTime(busy_s=100.0, stolen_s=5.0, total_s=1_000.0)
    end = MachineTime(busy_s=100.0 + busy_s, stolen_s=5.0 + stolen_s, total_s=1_100.0)
    return judge(start, end, own_s, samples_s)


def test_a_quiet_machine_is_trusted() -> None:
    noise = judged(samples_s=QUIET)
    assert noise.trusted
    assert noise.reasons == ()
    assert noise.calibration_us == pytest.approx(10_050)


@pytest.mark.parametrize(
    ("noise", "reason"),
    [
        (judged(stolen_s=6.0, samples_s=QUIET), "the hypervisor took 6% of the time"),
        (judged(busy_s=40.0, own_s=20.0, samples_s=QUIET), "other processes used 20% of all cores"),
        (judged(samples_s=[0.010, 0.010, 0.012, 0.013]), "spread over 18%"),
    ],
)
def test_a_noisy_machine_is_not_trusted_and_told_why(noise: Noise, reason: str) -> None:
    assert not noise.trusted
    assert len(noise.reasons) == 1
    assert reason in noise.reasons[0]


def test_one_slow_sample_among_many_is_no_reason() -> None:
    assert judged(samples_s=[*QUIET * 5, 0.1]).trusted


def test_cpu_that_is_ours_is_not_noise() -> None:
    assert judged(busy_s=90.0, own_s=90.0, samples_s=QUIET).foreign == 0


def test_the_kernels_line_is_read_by_its_fields() -> None:
    # user nice system idle iowait irq softirq steal guest guest_nice, in ticks
    found = parse_machine_time("cpu  100 20 30 400 50 6 7 80 9 10\ncpu0 1 2 3 4\n", ticks_per_s=100)
    assert found == MachineTime(busy_s=1.63, stolen_s=0.8, total_s=6.93)


def test_the_watch_sees_what_it_can_of_this_machine() -> None:
    watch = NoiseWatch()
    watch.sample(3)
    noise = watch.verdict()
    assert noise.samples == 13
    assert noise.calibration_us > 500
    assert 0 <= noise.steal <= 1
    assert 0 <= noise.foreign <= 1
