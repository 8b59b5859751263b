import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from emodarts.features.audio import (
    UnreadableAudio,
    UnusableAudio,
    decode,
    frame_powers,
    percentile,
    prepare,
    trim,
    with_noise,
)
from emodarts.features.extractors.spectra import Spectra
from emodarts.features.measures import MEASURES, measure
from emodarts.features.normalisation import Standardiser
from emodarts.features.settings import FeatureSettings
from tests.support.files import write_tone


def noise(samples, level=0.1, seed=0):
    return np.random.default_rng(seed).normal(0, level, samples).astype(np.float32)


@pytest.mark.parametrize("kind", ["log_mel", "mfcc"])
@pytest.mark.parametrize("deltas", [False, True])
def test_frames_are_the_same_alone_and_in_any_batch(kind, deltas):
    sounds = [noise(n, seed=n) for n in (5000, 16000, 8123)]
    spectra = Spectra(FeatureSettings(kind=kind, deltas=deltas))
    for sound, together in zip(sounds, spectra(sounds), strict=True):
        alone = spectra([sound])[0]
        assert alone.shape == (spectra.frames(len(sound)), spectra.bins * spectra.channels)
        torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["log_mel", "mfcc"])
@pytest.mark.parametrize(("window_ms", "hop_ms", "bands"), [(32, 20, 64), (32, 10, 40), (25.03, 25, 80)])
def test_frames_are_those_of_torchaudio(kind, window_ms, hop_ms, bands):
    """Its plain transforms on the samples between zeros; odd windows and hops, lengths that end anywhere."""
    settings = FeatureSettings(kind=kind, window_ms=window_ms, hop_ms=hop_ms, n_mels=bands, deltas=True)
    spectra = Spectra(settings)
    mel = torchaudio.transforms.MelSpectrogram(
        16000, spectra.size, spectra.window, spectra.hop, n_mels=bands, center=False
    )
    for samples in (319, 1600, 40_001):
        sound = noise(samples)
        padded = torch.nn.functional.pad(torch.from_numpy(sound), (spectra.size // 2, spectra.size))
        expected = torch.log(mel(padded)[:, : spectra.frames(samples)] + settings.log_floor)
        expected = expected - expected.mean()
        if kind == "mfcc":
            expected = torchaudio.functional.create_dct(settings.n_mfcc, bands, "ortho").T @ expected
        first = torchaudio.functional.compute_deltas(expected)
        expected = torch.cat([expected, first, torchaudio.functional.compute_deltas(first)])
        torch.testing.assert_close(spectra([sound])[0], expected.T, atol=2e-5, rtol=1e-5)


def test_gain_does_not_change_normalised_frames():
    sound = noise(16000)
    spectra = Spectra(FeatureSettings(log_floor=1e-12))
    torch.testing.assert_close(spectra([sound])[0], spectra([sound * 0.1])[0], atol=1e-3, rtol=1e-3)


def test_silence_is_trimmed_and_dc_removed():
    sound = np.concatenate([np.zeros(8000), np.sin(np.arange(8000) * 0.1), np.zeros(8000)]).astype(np.float32)
    assert abs(len(trim(sound, 16000, frame_powers(sound, 16000), 35)) - 8000) <= 640
    cleaned = prepare(sound + 0.2, 16000, FeatureSettings(trim_db=None))
    assert abs(cleaned.mean()) < 1e-6


def test_levels_are_those_of_numpy():
    sound = noise(16123)
    filled = np.pad(sound.astype(np.float64), (0, -len(sound) % 320)).reshape(-1, 320)
    np.testing.assert_allclose(frame_powers(sound, 16000), (filled**2).mean(1), rtol=1e-5)
    for values in (noise(1), noise(2), noise(101), noise(400)):
        for percent in (0, 5, 50, 95, 100):
            assert percentile(values.astype(np.float64), percent) == pytest.approx(np.percentile(values, percent))


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_formats_and_stereo(tmp_path, suffix):
    sound = 0.3 * np.sin(np.arange(22050) * 0.05)
    soundfile.write(tmp_path / f"x{suffix}", np.stack([sound, sound], 1), 22050)
    samples, rate = decode(tmp_path / f"x{suffix}")
    assert rate == 22050
    assert samples.ndim == 1
    assert abs(len(samples) - 22050) < 3000  # MP3 and OGG pad


def test_a_part_of_a_file_and_one_that_does_not_say_its_length(tmp_path):
    sound = (noise(32000) * 32768).round() / 32768
    soundfile.write(tmp_path / "x.flac", sound, 16000)
    content = bytearray((tmp_path / "x.flac").read_bytes())
    content[21] &= 0xF0  # the number of samples in the header, 36 bits, becomes 0: unknown
    content[22:26] = bytes(4)
    (tmp_path / "stream.flac").write_bytes(content)
    with pytest.raises(UnusableAudio, match="does not say how long"):
        decode(tmp_path / "stream.flac")
    np.testing.assert_allclose(decode(tmp_path / "x.flac", 0.5, 1.25)[0], sound[8000:20000], atol=1e-6)
    with pytest.raises(UnusableAudio, match="no samples"):
        decode(tmp_path / "x.flac", 3.0, 4.0)


def test_what_the_system_says_is_no_fault_of_the_content(tmp_path, monkeypatch):
    write_tone(tmp_path / "a.wav")

    def fail(path):
        raise soundfile.LibsndfileError(2, f"Error opening {path!r}: ")

    monkeypatch.setattr(soundfile, "SoundFile", fail)
    with pytest.raises(UnreadableAudio, match="cannot be decoded"):
        decode(tmp_path / "a.wav")


def test_unusable_recordings(tmp_path):
    write_tone(tmp_path / "cut.flac")
    content = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: len(content) // 2])
    nan = np.zeros(16000, np.float32)
    nan[100] = np.nan
    soundfile.write(tmp_path / "nan.wav", nan, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "huge.wav", np.full(16000, 1e30, np.float32), 16000, subtype="FLOAT")
    for name, reason in (("cut.flac", "cut|decoded"), ("nan.wav", "NaN"), ("huge.wav", "samples up to 1e\\+30")):
        with pytest.raises(UnusableAudio, match=reason):
            decode(tmp_path / name)
    with pytest.raises(UnusableAudio, match="the file is missing"):
        decode(tmp_path / "gone.wav")
    with pytest.raises(UnusableAudio, match="silent"):
        prepare(np.full(16000, 0.25, np.float32), 16000, FeatureSettings())
    with pytest.raises(UnusableAudio, match="too short"):
        prepare(noise(500, 1), 16000, FeatureSettings())


def test_measures_of_a_recording_made_to_measure():
    rate = 16000
    sound = np.zeros(4 * rate, np.float32)
    sound[rate // 4 : -rate // 2] = noise(4 * rate - rate // 4 - rate // 2, 0.1) + np.float32(0.02)
    sound[rate // 4] = sound[-rate // 2 - 1] = 0.5
    sound[rate : rate + 64] = -1.0
    found = measure(sound, rate)
    assert set(found) == set(MEASURES.names) - {"utterance"}
    assert found["seconds"] == 4.0
    assert found["leading_zeros"] == 0.25
    assert found["trailing_zeros"] == 0.5
    assert found["dc"] == pytest.approx(float(sound.mean(dtype=np.float64)), abs=1e-8)
    assert found["peak"] == 1.0
    assert found["clipped"] == pytest.approx(64 / len(sound))


def test_the_noise_floor_is_the_level_of_the_pauses_without_dc():
    rate = 16000
    sound = noise(4 * rate, 0.001)
    sound[rate : 3 * rate] += noise(2 * rate, 0.1, seed=1)
    for dc in (0.0, 0.05):
        assert measure(sound + np.float32(dc), rate)["noise_floor"] == pytest.approx(-60, abs=1.0)
    assert measure(np.zeros(rate, np.float32), rate)["noise_floor"] == pytest.approx(-120)
    assert measure(np.zeros(rate, np.float32), rate)["leading_zeros"] == 1.0


def test_equal_audio_has_equal_hashes_whatever_its_container(tmp_path):
    sound = (noise(16000) * 32768).round() / 32768
    changed = sound.copy()
    changed[777] += 1 / 32768
    soundfile.write(tmp_path / "a.wav", sound, 16000, subtype="PCM_16")
    soundfile.write(tmp_path / "b.flac", np.stack([sound, sound], 1), 16000)
    soundfile.write(tmp_path / "c.wav", sound, 16000, subtype="PCM_24")
    soundfile.write(tmp_path / "d.wav", changed, 16000, subtype="PCM_16")
    a, b, c, d = (measure(*decode(p))["audio_hash"] for p in sorted(tmp_path.iterdir()))
    assert a == b == c != d


@pytest.mark.parametrize("snr_db", [-5.0, 10.0, 20.0])
def test_noise_stands_below_the_active_speech_by_so_many_db(snr_db):
    """Half of it is a pause, which does not count; white and pink occur, and a seed gives the same noise again."""
    rate = 16000
    speech = np.concatenate([noise(rate, 0.1), np.zeros(rate, np.float32)])
    slopes = set()
    for seed in range(12):
        added = with_noise(speech, rate, snr_db, seed).astype(np.float64) - speech
        assert 10 * np.log10(0.01 / (added**2).mean()) == pytest.approx(snr_db, abs=0.3)
        power = np.abs(np.fft.rfft(added)) ** 2
        slopes.add(round(np.log10(power[100:200].mean() / power[10_000:11_000].mean())))
    assert slopes == {0, 2}  # two decades of frequency apart: pink has 20 dB more
    np.testing.assert_array_equal(with_noise(speech, rate, snr_db, 1), with_noise(speech, rate, snr_db, 1))


@pytest.mark.slow
def test_statistics_come_from_train_alone(demo, demo_store):
    fold = demo[2][0]
    fitted = Standardiser.fit(demo_store, fold.train)
    frames = np.concatenate([demo_store.frames(u).astype(np.float64) for u in fold.train])
    torch.testing.assert_close(fitted.mean, torch.tensor(frames.mean(0), dtype=torch.float32), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fitted.deviation, torch.tensor(frames.std(0), dtype=torch.float32), atol=1e-4, rtol=1e-4)
