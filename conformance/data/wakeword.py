"""Synthetic wake-word clips and their log-mel spectrograms.

The keyword is a pair of simultaneous chirps, both rising. The other class holds silence, single
tones, single chirps, and pairs of tones, falling chirps or chirps in opposite directions, so that
neither energy, nor the number of tones, nor one direction alone gives the keyword away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

#: of the checkpoint
CONFIG: dict[str, Any] = {
    "sample_rate": 16000,
    "duration_s": 1.0,
    "n_mels": 64,
    "hop_length": 160,
    "num_classes": 2,
    "dropout": 0.2,
    "base_width": 8,
}
TRAIN_SEED = 1
TEST_SEED = 2
CALIBRATION_SEED = 3

N_FFT = 512
WINDOW_LENGTH = 400
MIN_FREQUENCY = 60.0
CHUNK = 64
DISTRACTORS = ("silence", "tone", "rising", "falling", "tones", "both_falling", "opposite")


def _chirp(
    time: np.ndarray, start: float, length: float, low: float, high: float, phase: float
) -> np.ndarray:
    """Render a linear chirp from ``low`` to ``high`` Hz under a Hann envelope, shape of time."""
    sound = np.zeros_like(time)
    begin, end = np.searchsorted(time, [start, start + length])
    local = (time[begin:end] - start) / length
    cycles = length * (low * local + 0.5 * (high - low) * local**2)
    sound[begin:end] = np.sin(np.pi * local) ** 2 * np.sin(2 * np.pi * cycles + phase)
    return sound


def _render(kind: str, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Render one noisy clip of the given kind, float64, shape of time."""
    duration = time[-1]
    length = rng.uniform(0.35, 0.6) * duration
    start = rng.uniform(0.05, 0.95) * (duration - length)
    base = rng.uniform(400.0, 1000.0)
    second = base * rng.uniform(1.6, 2.4)
    rise = rng.uniform(1.25, 1.8)
    phases = rng.uniform(0.0, 2 * np.pi, size=2)
    ratios: dict[str, tuple[float, ...]] = {
        "keyword": (rise, rise),
        "silence": (),
        "tone": (1.0,),
        "rising": (rise,),
        "falling": (1 / rise,),
        "tones": (1.0, 1.0),
        "both_falling": (1 / rise, 1 / rise),
        "opposite": (rise, 1 / rise) if phases[0] < np.pi else (1 / rise, rise),
    }
    clip = np.zeros_like(time)
    for frequency, ratio, phase in zip((base, second), ratios[kind], phases, strict=False):
        low, high = (frequency, frequency * ratio) if ratio >= 1 else (frequency / ratio, frequency)
        clip += _chirp(time, start, length, low, high, phase)
    return clip + 10 ** rng.uniform(-0.5, 0.55) * rng.standard_normal(time.shape)


def mel_filterbank(sample_rate: int, n_mels: int) -> np.ndarray:
    """Build triangular filters that are evenly spaced on the mel scale.

    Args:
        sample_rate: Samples per second.
        n_mels: Number of filters.

    Returns:
        Weights ``[N_FFT // 2 + 1, n_mels]``, float64.
    """
    limits = 2595.0 * np.log10(1.0 + np.array([MIN_FREQUENCY, sample_rate / 2]) / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(*limits, n_mels + 2) / 2595.0) - 1.0)
    bins = np.arange(N_FFT // 2 + 1)[:, None] * sample_rate / N_FFT
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))


def log_mel(clips: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Compute log-mel spectrograms, normalised to zero mean and unit variance per clip.

    Args:
        clips: Waveforms ``[n, samples]``, float.
        config: Keys ``sample_rate``, ``hop_length`` and ``n_mels``.

    Returns:
        Spectrograms ``[n, 1, n_mels, samples // hop_length + 1]``, float32.
    """
    window = np.pad(np.hanning(WINDOW_LENGTH), (N_FFT - WINDOW_LENGTH) // 2)
    padded = np.pad(clips, ((0, 0), (N_FFT // 2, N_FFT // 2)), mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT, axis=1)
    frames = frames[:, :: config["hop_length"]]
    power = np.abs(np.fft.rfft(frames * window, axis=2)) ** 2
    mel = np.log(power @ mel_filterbank(config["sample_rate"], config["n_mels"]) + 1e-6)
    mel -= mel.mean(axis=(1, 2), keepdims=True)
    mel /= mel.std(axis=(1, 2), keepdims=True)
    return mel.transpose(0, 2, 1)[:, None].astype(np.float32)


def make_dataset(n: int, seed: int, config: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Render a data set of which about one half is the keyword.

    Args:
        n: Number of clips.
        seed: Seed of the local generator.
        config: Keys ``sample_rate``, ``duration_s``, ``hop_length`` and ``n_mels``.

    Returns:
        Spectrograms ``[n, 1, n_mels, frames]`` float32 and labels ``[n]`` int64, 1 for the
        keyword.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(int(config["sample_rate"] * config["duration_s"])) / config["sample_rate"]
    labels = rng.integers(0, 2, size=n, dtype=np.int64)
    kinds = ["keyword" if label else str(rng.choice(DISTRACTORS)) for label in labels]
    features = [
        log_mel(np.stack([_render(kind, time, rng) for kind in kinds[i : i + CHUNK]]), config)
        for i in range(0, n, CHUNK)
    ]
    return np.concatenate(features), labels


def evaluation() -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Yield 1000 clips held out from training: ``({"mel": spectrograms}, labels)`` batches."""
    features, labels = make_dataset(1000, TEST_SEED, CONFIG)
    for i in range(0, len(labels), CHUNK):
        yield {"mel": features[i : i + CHUNK]}, labels[i : i + CHUNK]


def calibration() -> Iterator[dict[str, np.ndarray]]:
    """Yield 64 clips, neither trained nor evaluated on: ``{"mel": spectrogram}`` one by one."""
    features, _ = make_dataset(64, CALIBRATION_SEED, CONFIG)
    for clip in features:
        yield {"mel": clip[None]}
