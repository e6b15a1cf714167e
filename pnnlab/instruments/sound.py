"""A loudspeaker and a microphone as a bench: any computer has one.

Levels are parts of full scale. A record is divided by the gain of the response at the self-check,
so that read-outs do not depend on the volume.
"""

import atexit
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.ndimage import uniform_filter1d
from scipy.signal import fftconvolve

from pnnlab.background import Session
from pnnlab.errors import InstrumentError, LimitError, RangeError
from pnnlab.instruments.programme import Acquisition, Bench, Programme, Read, Waves
from pnnlab.instruments.soundcheck import (
    CLIPPED,
    LEAD,
    LEVELS,
    SLIPS,
    SlipError,
    SoundCheck,
    lags,
    locate,
    measure_response,
    resample,
    self_check,
)
from pnnlab.plain import make_plain
from pnnlab.systems.analog import Volts

LEVEL, DURATION_S = 0.1, 20.0  # more needs a reason
FADE_S = 0.005  # at both ends a sound stays below a straight line from zero to the level
TAIL_S = 1.0  # recorded after the end of a sound, which may be as late as that
SPARE_S = 0.15  # recorded after the time at which the end is expected
LATENCY_S = 0.2  # of a sound card: a computer that is busy loses no sound in so short a time
SETTLING_S = 0.5  # in which a sound card that was opened may lose sound
OPENINGS = 4  # of a sound card that loses sound
SILENCE_S = 0.05  # before the first mark
MARK, CHIP = 256, 2  # samples, and those of one level
SLIP = 2400  # samples by which shots of one record may be early or late
SLIPPED, EXACT = 0.1, 0.02  # samples by which delays differ after a slip, and without one
ATTEMPTS, REPEATS = 12, 5  # for each shot, and for a measurement of the response
TESTS = 24  # shots by which the loudspeaker's curve is measured
MARGIN = 4.0  # times what the test shots departed is accepted
FAINTEST = 0.02  # of the largest size of a sound: less is taken for so much, as departure too
NOISES = 7.0  # standard deviations of noise that are accepted besides
ROUNDING = 5e-5  # of a converter of 16 bits
NEIGHBOURS = 257  # samples over which the size of a sound is taken
GAIN_STEP = 0.05  # a room's gain may drift; so large a step has another cause
GAIN_CHANGED = 0.1  # since the self-check: 0.9 dB
FOLLOW = 0.5  # of what shots depart is corrected in the response after each record
MANY = 0.25  # of a record's shots: if more do not fit, twice, the response is measured again

logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class SoundLimits:
    """Limits of a sound; one beyond them, or with a jump at an end, is not played, never clipped.

    How loud a level is, the system's volume decides. Headphones on ears are no place for a bench.

    Attributes
    ----------
    level : float
        Largest sample, of full scale.
    duration_s : float
        Longest sound.
    duty : float
        Largest part of it that may be above a thousandth of the level.
    because : str
        Why it may be louder or longer than the defaults: what is connected.

    Raises
    ------
    RangeError
        A limit makes no sense, or is raised without a reason.
    """

    level: float = LEVEL
    duration_s: float = DURATION_S
    duty: float = 1.0
    because: str = ""

    def __post_init__(self) -> None:
        make_plain(self)
        if not (0 < self.level <= 1 and 0 < self.duty <= 1):
            raise RangeError("level and duty lie in (0, 1].")
        if (self.level > LEVEL or self.duration_s > DURATION_S) and not self.because.strip():
            raise RangeError(
                f"beyond a level of {LEVEL} or {DURATION_S:.0f} s a sound can hurt ears and "
                "loudspeakers: say why it may be so, as in because='a plate with an exciter, and "
                "nobody wears headphones'."
            )

    def check(self, sound: Volts, sample_rate_hz: float) -> None:
        """Raise `LimitError` unless a sound is within the limits."""
        if sound.ndim != 1 or not np.isfinite(sound).all():
            raise LimitError("A sound is (samples,), of finite numbers; nothing was played.")
        size = np.abs(sound)
        duty = np.count_nonzero(size > 1e-3 * self.level) / max(len(sound), 1)
        line = np.arange(1, len(sound) + 1) / (FADE_S * sample_rate_hz)
        ends = np.minimum(1, np.minimum(line, line[::-1])) * self.level
        loudest = size.max(initial=0)
        if loudest > self.level * (1 + 1e-6):
            problem = f"reaches {loudest:.3g} of full scale; permitted are {self.level:.3g}"
        elif len(sound) > self.duration_s * sample_rate_hz:
            problem = f"lasts longer than {self.duration_s:g} s"
        elif duty > self.duty:
            problem = f"is there for {duty:.3g} of its length; permitted are {self.duty:.3g}"
        elif (size > ends * (1 + 1e-6)).any():
            problem = f"begins or ends with a jump; it must fade for {FADE_S:g} s"
        else:
            return
        raise LimitError(f"The sound {problem}. Nothing was played.")


class SoundPort(Protocol):
    """Plays and records at the same time: a `SoundCard`, a browser's page, or a simulated one."""

    limits: Any  # a `SoundLimits`

    @property
    def sample_rate_hz(self) -> float:
        """Samples a second, of both."""

    def play(self, sound: Volts, tail_s: float = TAIL_S) -> Volts:
        """Play within the limits; the record is so much longer."""

    def silence(self) -> None:
        """Be silent at once; for any thread."""


@final
@dataclass
class _Exchange:
    """A sound that is played, and what is heard meanwhile; both of one length."""

    played: Volts
    heard: Volts
    done: int = 0
    ended: threading.Event = field(default_factory=threading.Event)


@final
class SoundCard:
    """Loudspeaker and microphone of this computer, by the package sounddevice.

    ``output`` and ``microphone`` are names or numbers of devices, or parts of names; by default
    those of the system. `InstrumentError`: there is no sounddevice, no PortAudio or no such device,
    or it does not take this rate.
    """

    def __init__(
        self,
        *,
        output: str | int | None = None,
        microphone: str | int | None = None,
        sample_rate_hz: float = 48_000.0,
        limits: SoundLimits | None = None,
    ) -> None:
        self._library = library = _library()
        self.sample_rate_hz = sample_rate_hz
        self.limits = limits or SoundLimits()
        self._devices = microphone, output
        self._stream: Any = None
        self._exchange: _Exchange | None = None
        self._closed = self._settled = False
        with self._explained():
            most = int(library.query_devices(output, "output")["max_output_channels"])
            self._channels = 1, min(2, most)
            library.check_input_settings(microphone, 1, samplerate=sample_rate_hz)
            library.check_output_settings(output, self._channels[1], samplerate=sample_rate_hz)

    def play(self, sound: Volts, tail_s: float = TAIL_S) -> Volts:
        """Play a sound and record what is heard, also while it is late.

        The device stays open between two sounds, and silent. One that lost sound, or does not go
        on, is opened anew, and the sound played again. `LimitError`: nothing was played;
        `InstrumentError`: the device failed or was taken away, or it was closed meanwhile.
        """
        self.limits.check(sound, self.sample_rate_hz)
        padded = np.append(sound, np.zeros(round(tail_s * self.sample_rate_hz))).astype(np.float32)
        self._closed = False
        for _ in range(OPENINGS):
            exchange = _Exchange(padded, np.zeros_like(padded))
            try:
                with self._explained():
                    stream = self._stream
                    if stream is None or not stream.active:
                        self._shut()
                        self._open()
                    self._exchange = exchange
                    exchange.ended.wait(len(padded) / self.sample_rate_hz + 3)
            except BaseException:
                self.silence()
                raise
            if self._closed:
                raise InstrumentError("The sound was stopped.")
            if exchange.done >= len(padded):
                return exchange.heard.astype(np.float64)
            logger.info("the sound device lost sound, and is opened anew")
            self._shut()
        raise InstrumentError(
            "The sound device has stopped: check whether it is still connected and whether "
            "another program uses it, then continue."
        )

    def silence(self) -> None:
        """Be silent at once; for any thread. A `play` that is under way raises then."""
        self._closed = True
        self._shut()

    def _shut(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()  # without stop, which would play what is waiting
        self._wake()

    def _wake(self) -> None:
        if self._exchange is not None:
            self._exchange.ended.set()

    def _open(self) -> None:
        def run(heard: Volts, played: Volts, _: int, __: object, status: object) -> None:
            played[:] = 0
            now = self._exchange
            if now is not None and not now.ended.is_set():
                here = slice(now.done, now.done + len(heard))
                part = now.played[here, None]
                played[: len(part)] = part
                now.heard[here] = heard[: len(part), 0]
                now.done += len(heard)
                if now.done >= len(now.heard):
                    now.ended.set()
            if status and self._settled:  # a stream that has lost sound may stay silent from now on
                raise self._library.CallbackAbort

        self._stream = self._library.Stream(
            self.sample_rate_hz,
            device=self._devices,
            channels=self._channels,
            dtype="float32",
            latency=LATENCY_S,
            callback=run,
            finished_callback=self._wake,
        )
        self._settled = False
        self._stream.start()
        time.sleep(SETTLING_S)
        self._settled = True

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (self._library.PortAudioError, ValueError) as error:
            raise InstrumentError(
                f"The sound device does not work ({error}). Choose others by output and microphone "
                "(pnnlab doctor lists them) or another sample_rate_hz, and check that no other "
                "program uses it."
            ) from error


def _library() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise InstrumentError(
            "Sound needs one more package: pip install 'pnnlab[sound]', then restart the kernel."
        ) from error
    except OSError as error:
        raise InstrumentError(
            f"Sound needs PortAudio ({error}): apt install libportaudio2, or conda install "
            "portaudio; then restart the kernel."
        ) from error
    return sounddevice


def list_devices() -> tuple[str, ...]:
    """Sound devices of this computer and their channels, or `InstrumentError`."""
    return tuple(
        f"{device['name']} ({device['max_input_channels']} in, {device['max_output_channels']} out)"
        for device in _library().query_devices()
    )


class _Windows(NamedTuple):
    """Shots as they came back, each with the marks in front and behind."""

    found: Volts  # (shots, samples)
    played: Volts  # (shots, samples + LEAD)
    powers: Volts  # (3, shots, samples): first to third of the sound, behind its response
    offsets: Volts  # (shots,), samples by which they are late beside the whole record
    late_s: float  # by which the whole record is late


@final
class SoundAcquisition(Acquisition):
    """A sound card with a device between loudspeaker and microphone; see `open_sound`.

    A record is late, its clock may differ from the player's, a buffer may be lost, or something
    else may sound. So a mark of noise, another one each time, stands in front of and behind each
    shot. Marks, rests and shot must come back as the measured response and the loudspeaker's curve
    say, at one delay, within the noise and what test shots showed besides. A shot that does not is
    taken again and counted, as "slip", "gain", "clipping" or "noise". The response follows the room
    by the shots that do.
    """

    check: SoundCheck

    def __init__(
        self, port: SoundPort, programme: Programme, *, check: SoundCheck | None = None
    ) -> None:
        rate, level = port.sample_rate_hz, port.limits.level
        if programme.sample_rate_hz != rate:
            raise RangeError(
                f"the programme is for {programme.sample_rate_hz:g} Hz, and the sound card runs at "
                f"{rate:g} Hz: give both the same."
            )
        if programme.drive_v > level:
            raise LimitError(
                f"The programme reaches {programme.drive_v:.3g} of full scale; permitted are "
                f"{level:.3g}. Nothing was played."
            )
        self.port = port
        self._programme = programme
        self._rest = programme.rest
        self._silence = round(SILENCE_S * rate)
        self._gain = 0.0  # in the band of the shots
        self._tail = TAIL_S  # recorded after the end of a sound
        self._stopped = False
        self._random = np.random.default_rng(0)  # of marks, which are others in each record
        super().__init__()
        try:
            self.check = check or self_check(port.play, programme.drive_v, rate)
            if self.check.problems:
                raise InstrumentError(str(self.check))
            self.response = self.check.response
            self._examine()
        except BaseException:
            self.close()
            raise

    def at_once(self, samples: int) -> int:
        longest = int(self.port.limits.duration_s * self.port.sample_rate_hz)
        each = samples + MARK + self._rest
        most = (longest - self._silence - MARK - 2 * self._rest) // each
        if most < 1:
            raise RangeError(
                f"a shot of {samples} samples does not fit into the {self.port.limits.duration_s} "
                "s that a sound may last: use fewer replays."
            )
        return most

    def take(self, shots: int, samples: int, waves: Waves, read: Read) -> None:
        """Play waveforms until all are accepted; the answers begin with the direct sound."""
        most = self.at_once(samples)
        with self._lock:
            for start in range(0, shots, most):
                rows = slice(start, min(start + most, shots))
                read(rows, self._accepted(np.asarray(waves(rows), np.float32)))
                self._shots += rows.stop - start

    def rearm(self) -> None:
        """Go on after `close`."""
        atexit.register(self.close)
        self._stopped = False

    def close(self) -> None:
        """Be silent at once, for any thread, and until `rearm`; may be repeated."""
        atexit.unregister(self.close)
        self._stopped = True
        self.port.silence()

    def _accepted(self, waves: Volts) -> Volts:
        """Play waveforms, and again those of them whose records are refused."""
        answers = np.empty(waves.shape, np.float32)
        waiting = np.arange(len(waves))
        misfits = 0  # records in a row of which many shots do not fit
        for _ in range(ATTEMPTS):
            windows = self._record(waves[waiting])
            causes = self._causes(windows)
            good = causes == ""
            shot = slice(MARK + self._rest, -MARK)
            answers[waiting[good]] = windows.found[good, shot] / self._gain
            self._follow(windows, good)
            self._tail = min(windows.late_s + SPARE_S, TAIL_S) if good.all() else TAIL_S
            waiting = waiting[~good]
            if not len(waiting):
                return answers
            again = Counter(causes[~good].tolist())
            self._retaken += again
            logger.info("shots are taken again: %s", dict(again))
            many = again["noise"] + again["gain"] > MANY * len(good)
            misfits = misfits + 1 if many else 0
            if misfits == 2:
                self._calibrate()
                misfits = 0
        raise InstrumentError(
            f"{len(waiting)} shots were taken {ATTEMPTS} times, and none can be trusted: "
            f"{dict(again)}. Is something else sounding, such as a call, or moving, or is the "
            "computer too busy? Remove the cause, then continue; nothing is lost."
        )

    def _follow(self, windows: _Windows, good: NDArray[np.bool_]) -> None:
        """Let the response follow the room, by a step of gradient descent on accepted shots."""
        missed = windows.found[good] - np.tensordot(self._curve, windows.powers[:, good], 1)
        points = next_fast_len(2 * windows.played.shape[1], real=True)
        played = rfft(windows.played[good], points)
        missed = rfft(np.pad(missed, ((0, 0), (LEAD, 0))), points)
        power = np.square(np.abs(played)).sum(0)
        step = (missed * played.conj()).sum(0) / (power + 0.01 * power.max(initial=1e-12))
        taps, reach = self.response.taps.copy(), LEAD + self._rest
        taps[:reach] += FOLLOW * irfft(step, points)[:reach]
        self.response = self.response._replace(taps=taps)
        # Read-outs are divided by the gain of the self-check, which a slow change must not leave.
        if abs(self.response.gain / self.check.response.gain - 1) > GAIN_CHANGED:
            self._calibrate()

    def _calibrate(self) -> None:
        changed = 0.0
        for _ in range(REPEATS):
            with suppress(SlipError):
                found = measure_response(self._play, LEVELS[-1] * self._programme.drive_v, 4)
                changed = found.gain / self.check.response.gain
                if np.ptp(found.gains) < GAIN_STEP and abs(changed - 1) < GAIN_CHANGED:
                    self.response = found.in_place_of(self.response)
                    return self._examine()
        if not changed:
            raise InstrumentError(SLIPS)
        raise InstrumentError(
            f"The gain has changed by {20 * math.log10(changed):+.1f} dB: set the volume, "
            "and the place of the microphone, as they were, or open the bench again."
        )

    def _examine(self) -> None:
        """Play test shots: how the loudspeaker distorts, and how far answers depart from that."""
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(TESTS, self._programme.input_dim, generator=generator)
        theta = torch.rand(TESTS, self._programme.param_dim, generator=generator)
        theta[::2] = theta[::2].round()  # the loudest there are
        waves = self._programme.encode(x, theta).numpy()
        windows = self._record(waves)
        pairs = zip(windows.powers.swapaxes(0, 1), windows.found, strict=True)
        fits = [np.linalg.lstsq(powers.T, found, rcond=None)[0] for powers, found in pairs]
        self._curve = np.median(fits, axis=0)  # a fault in one of them is in no median
        _, departures = self._compared(windows)
        self._departure = MARGIN * max(FAINTEST, float(np.quantile(departures, 0.8)))
        if not self._gain:
            heard = fftconvolve(waves, self.response.taps[None], axes=1)
            self._gain = float(np.linalg.norm(heard) / np.linalg.norm(waves))

    def _play(self, sound: Volts) -> Volts:
        if self._stopped:
            raise InstrumentError("The sound was stopped: call rearm() of the bench, and go on.")
        return self.port.play(sound, self._tail)

    def _record(self, waves: Volts) -> _Windows:
        """Play waveforms with marks between them, and find what comes back."""
        count, samples = waves.shape
        each = samples + MARK + self._rest
        window = each + MARK  # a mark, a rest, a shot and the next mark
        sound = np.zeros(self._silence + count * each + MARK + 2 * self._rest)
        begins = self._silence + each * np.arange(count + 1)[:, None]
        levels = self._random.choice([-0.5, 0.5], (count + 1, MARK // CHIP))
        sound[begins + np.arange(MARK)] = np.repeat(levels, CHIP, 1) * self._programme.drive_v
        sound[begins[:-1] + MARK + self._rest + np.arange(samples)] = waves
        record = self._play(sound)
        clock = self.response.clock
        steady = resample(record, 0.0, clock, int(len(record) / clock))
        answers = [fftconvolve(sound**power, self.response.taps) for power in (1, 2, 3)]
        late, _ = locate(steady, answers[0])
        starts = begins[:-1] + LEAD
        powers = np.stack([answer[starts + np.arange(window)] for answer in answers])
        # Each window is sought for itself: one that is whole has a delay of its own after a slip.
        wide = np.pad(steady, (SLIP, len(sound) + SLIP))
        wide = wide[late + starts + np.arange(window + 2 * SLIP)]
        points = next_fast_len(window + 2 * SLIP, real=True)
        match = irfft(rfft(wide, points) * rfft(powers[0], points).conj(), points)
        whole = match[:, : 2 * SLIP + 1].argmax(1)
        rough = np.take_along_axis(wide, whole[:, None] + np.arange(window), axis=1)
        offsets = whole - SLIP + lags(rough, powers[0])
        if clock == 1:  # then delays are whole, and the same shot has the same bits
            exact = np.rint(offsets)
            offsets = np.where(np.abs(offsets - exact) < EXACT, exact, offsets)
        places = clock * (late + starts[:, 0] + offsets)
        found = np.stack([resample(record, place, clock, window) for place in places])
        played = sound[begins[:-1] + np.arange(window + LEAD)]
        return _Windows(found, played, powers, offsets, late / self.port.sample_rate_hz)

    def _compared(self, windows: _Windows) -> tuple[Volts, Volts]:
        """Gains of the marks in front and behind, (shots, 2), and departures, (shots,)."""
        predicted = np.tensordot(self._curve, windows.powers, 1)
        pairs = [
            (windows.found[:, at], predicted[:, at]) for at in (slice(MARK), slice(-MARK, None))
        ]
        gains = np.stack([(a * b).sum(1) / np.square(b).sum(1) for a, b in pairs], axis=1)
        usual = np.clip(np.median(gains), 1 - GAIN_STEP, 1 + GAIN_STEP)
        size = np.sqrt(uniform_filter1d(np.square(predicted), NEIGHBOURS, axis=1))
        missed = np.abs(windows.found - usual * predicted) - NOISES * self.check.noise - ROUNDING
        return gains, (missed / np.maximum(size, FAINTEST * size.max())).max(1)

    def _causes(self, windows: _Windows) -> NDArray[np.str_]:
        """Why shots are refused; empty for those that are not."""
        gains, departures = self._compared(windows)
        jumps = np.abs(np.diff(windows.offsets)) > SLIPPED
        slipped = np.append(jumps, False) | np.append(False, jumps)
        step = np.abs(gains - 1).max(1) > GAIN_STEP
        wrong = step | (departures > self._departure)
        clipped = np.abs(windows.found).max(1) > CLIPPED
        kinds = [clipped, wrong & slipped, step, wrong]
        return np.select(kinds, ["clipping", "slip", "gain", "noise"], "")


def silence_on_stop(session: Session, bench: Bench) -> None:
    """Let a Stop of a session end its sound at once; `Bench.rearm` lets the bench go on."""
    session.observers.append(lambda: bench.close() if "stop" in session.requests else None)


def open_sound(port: SoundPort, programme: Programme, *, check: SoundCheck | None = None) -> Bench:
    """Check loudspeaker and microphone, and open the device between them as a `Bench`.

    ``check`` is one made just now, by `pnnlab.instruments.soundcheck.self_check`. `LimitError`: the
    programme is louder than the port's limits; `InstrumentError`: the check found a problem.
    """
    return Bench(SoundAcquisition(port, programme, check=check), programme)
