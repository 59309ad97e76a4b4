"""Exercises whose answer is a formula. References are NumPy in double precision and import nothing of the library."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from vae_lib.check.grading import Exercise

Array = np.ndarray
_RNG = np.random.default_rng(7)
LOG_2PI = math.log(2 * math.pi)


def _normal(*shape: int, scale: float = 1.0) -> Array:
    return (scale * _RNG.standard_normal(shape)).astype(np.float32)


def _softplus(x: Array) -> Array:
    return np.logaddexp(0.0, x)


def _sigmoid(x: Array) -> Array:
    return np.exp(-_softplus(-x))


def _pixels(x: Array) -> tuple[int, ...]:
    return tuple(range(1, np.ndim(x)))


# ---- The terms of the ELBO ---------------------------------------------------------------------------------

_GAUSSIANS = [(_normal(5, 2), _normal(5, 2)), (_normal(3, 4, scale=2.0), _normal(3, 4)), (_normal(2, 1), _normal(2, 1))]


def _kl(m: Array, lv: Array) -> Array:
    return 0.5 * (np.square(m) + np.exp(lv) - 1.0 - lv).sum(axis=1)


kl = Exercise(
    "kl",
    "kl(z_mean, z_log_var) -> (B,): KL(N(z_mean, exp(z_log_var)) || N(0, 1)) in nats, summed over dimensions (B, D)",
    _GAUSSIANS,
    _kl,
    [
        ("You averaged over the latent dimensions: your beta is 1/D. Sum over them.",
         lambda m, lv: 0.5 * (np.square(m) + np.exp(lv) - 1 - lv).mean(axis=1)),
        ("The batch mean was taken inside: give one number an image, (B,).", lambda m, lv: _kl(m, lv).mean()),
        ("You summed over the batch too: give one number an image, (B,).", lambda m, lv: _kl(m, lv).sum()),
        ("A factor 1/2 is missing.", lambda m, lv: 2 * _kl(m, lv)),
        ("The sign is flipped: a KL is never negative.", lambda m, lv: -_kl(m, lv)),
        ("sigma where sigma squared belongs: exp(z_log_var) is the variance already.",
         lambda m, lv: 0.5 * (np.square(m) + np.exp(0.5 * lv) - 1 - lv).sum(axis=1)),
        ("You took z_log_var for log sigma: exp(z_log_var) is sigma squared here.",
         lambda m, lv: 0.5 * (np.square(m) + np.exp(2 * lv) - 1 - 2 * lv).sum(axis=1)),
        ("The mean enters squared.", lambda m, lv: 0.5 * (m + np.exp(lv) - 1 - lv).sum(axis=1)),
        ("The 1 is missing: a standard normal has a KL of 0.",
         lambda m, lv: 0.5 * (np.square(m) + np.exp(lv) - lv).sum(axis=1)),
        ("You left the dimensions as they are, (B, D): sum over them.",
         lambda m, lv: 0.5 * (np.square(m) + np.exp(lv) - 1 - lv)),
    ],
    learned_through=True,
)  # fmt: skip

_BITS = [
    ((_RNG.random((4, 28, 28, 1)) < 0.4).astype(np.float32), _normal(4, 28, 28, 1, scale=3.0)),
    ((_RNG.random((2, 28, 28, 1)) < 0.5).astype(np.float32), 120 * np.sign(_normal(2, 28, 28, 1))),
]


def _bernoulli(x: Array, logits: Array) -> Array:
    return (_softplus(logits) - x * logits).sum(axis=_pixels(x))


def _clipped_log(x: Array, logits: Array, tiny: float = 1e-7) -> Array:
    p = np.clip(_sigmoid(logits), tiny, 1 - tiny)
    return -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=_pixels(x))


bernoulli_nll = Exercise(
    "bernoulli_nll",
    "bernoulli_nll(x, logits) -> (B,): -log p(x | logits) in nats, summed over the pixels (B, H, W, C)",
    _BITS,
    _bernoulli,
    [
        ("You averaged over the pixels: the KL then weighs 784 times as much on MNIST. Sum over them.",
         lambda x, y: (_softplus(y) - x * y).mean(axis=_pixels(x))),
        ("You averaged over the channel, as Keras' binary_crossentropy does, and left the pixels: sum them.",
         lambda x, y: (_softplus(y) - x * y).mean(axis=-1)),
        ("The batch mean was taken inside: give one number an image, (B,).", lambda x, y: _bernoulli(x, y).mean()),
        ("You summed over the batch too: give one number an image, (B,).", lambda x, y: _bernoulli(x, y).sum()),
        ("The sign is flipped: this is log p(x | z), and a loss is its negative.", lambda x, y: -_bernoulli(x, y)),
        ("A sigmoid and then a clipped log: where the decoder is sure, the loss has a ceiling. Use the logits.",
         _clipped_log),
        ("You took the sigmoid twice: the function for logits wants logits.",
         lambda x, y: _bernoulli(x, _sigmoid(y))),
        ("This is the squared error of the probabilities, no likelihood of bits.",
         lambda x, y: np.square(x - _sigmoid(y)).sum(axis=_pixels(x))),
        ("x and logits have changed places.", lambda x, y: _bernoulli(y, x)),
        ("Only the pixels that are 1 are counted: those that are 0 have a probability too.",
         lambda x, y: (x * _softplus(-y)).sum(axis=_pixels(x))),
    ],
    learned_through=True,
)  # fmt: skip

_NOISY = [(m, lv, _normal(*m.shape)) for m, lv in _GAUSSIANS]
sample = Exercise(
    "sample",
    "sample(z_mean, z_log_var, epsilon) -> (B, D): a draw from N(z_mean, exp(z_log_var)), made from the noise epsilon",
    _NOISY,
    lambda m, lv, e: m + np.exp(0.5 * lv) * e,
    [
        ("The noise is scaled by the variance: sigma is exp(z_log_var / 2).", lambda m, lv, e: m + np.exp(lv) * e),
        ("The noise is scaled by log sigma squared itself: take exp(z_log_var / 2).", lambda m, lv, e: m + lv * e),
        ("The noise is scaled by z_log_var / 2, without the exponential.", lambda m, lv, e: m + 0.5 * lv * e),
        ("The mean is missing.", lambda m, lv, e: np.exp(0.5 * lv) * e),
        ("There is no noise in it: this is the mean.", lambda m, lv, e: m),
        ("The noise is not scaled.", lambda m, lv, e: m + e),
        ("The mean is multiplied by the noise too.", lambda m, lv, e: (m + np.exp(0.5 * lv)) * e),
        ("One over sigma where sigma belongs: the sign in the exponent.", lambda m, lv, e: m + np.exp(-0.5 * lv) * e),
    ],
    learned_through=True,
)  # fmt: skip

_PARTS = [
    ((_RNG.random((len(m), side, side, 1)) < 0.4).astype(np.float32), _normal(len(m), side, side, 1), m, lv)
    for side, (m, lv) in zip((4, 3), _GAUSSIANS[:2], strict=True)
]
elbo = Exercise(
    "elbo",
    "elbo(x, logits, z_mean, z_log_var) -> (B,): the evidence lower bound with one sample, -(nll + kl), in nats",
    _PARTS,
    lambda x, y, m, lv: -(_bernoulli(x, y) + _kl(m, lv)),
    [
        ("The sign is flipped: this is the loss, and the ELBO is its negative.",
         lambda x, y, m, lv: _bernoulli(x, y) + _kl(m, lv)),
        ("The KL is added to log p(x | z): it is taken off.", lambda x, y, m, lv: -_bernoulli(x, y) + _kl(m, lv)),
        ("The KL is missing.", lambda x, y, m, lv: -_bernoulli(x, y)),
        ("The reconstruction is missing.", lambda x, y, m, lv: -_kl(m, lv)),
        ("The batch mean was taken inside: give one number an image, (B,).",
         lambda x, y, m, lv: -(_bernoulli(x, y) + _kl(m, lv)).mean()),
        ("The KL is averaged over the latent dimensions: your beta is 1/D.",
         lambda x, y, m, lv: -(_bernoulli(x, y) + _kl(m, lv) / m.shape[1])),
        ("The reconstruction is averaged over the pixels: your beta is the number of pixels.",
         lambda x, y, m, lv: -(_bernoulli(x, y) / x[0].size + _kl(m, lv))),
    ],
    learned_through=True,
)  # fmt: skip

_LOSSES = [(np.abs(_normal(6, scale=90.0)), np.abs(_normal(6, scale=5.0)), beta) for beta in (1.0, 0.25, 4.0)]
loss = Exercise(
    "loss",
    "loss(nll, kl, beta) -> a number: the mean over the batch of nll + beta kl, both (B,)",
    _LOSSES,
    lambda n, k, b: (n + b * k).mean(),
    [
        ("You summed over the batch: the loss would grow with its size. Take the mean.",
         lambda n, k, b: (n + b * k).sum()),
        ("The mean over the batch is missing: a loss is one number.", lambda n, k, b: n + b * k),
        ("beta weighs the KL, not the reconstruction.", lambda n, k, b: (b * n + k).mean()),
        ("beta is not used.", lambda n, k, b: (n + k).mean()),
        ("The KL is taken off: training would make it grow without end.", lambda n, k, b: (n - b * k).mean()),
        ("1 - beta weighs the reconstruction here: it keeps its weight of 1.",
         lambda n, k, b: ((1 - b) * n + b * k).mean()),
    ],
)  # fmt: skip

# ---- Likelihoods of grey pixels ----------------------------------------------------------------------------

_GREY = [(_RNG.random((4, 5, 5, 1)).astype(np.float32), _RNG.random((4, 5, 5, 1)).astype(np.float32), s)
         for s in (-1.0, 0.3)]  # fmt: skip


def _gaussian(x: Array, m: Array, ls: float) -> Array:
    return (0.5 * np.square((x - m) / np.exp(ls)) + ls + 0.5 * LOG_2PI).sum(axis=_pixels(x))


gaussian_nll = Exercise(
    "gaussian_nll",
    "gaussian_nll(x, mean, log_sigma) -> (B,): -log N(x; mean, exp(log_sigma)^2) in nats, summed over pixels",
    _GREY,
    _gaussian,
    [
        ("log sigma is missing: without it a wider Gaussian always costs less.",
         lambda x, m, ls: (0.5 * np.square((x - m) / np.exp(ls)) + 0.5 * LOG_2PI).sum(axis=_pixels(x))),
        ("The constant 1/2 log(2 pi) is missing: the result is no density.",
         lambda x, m, ls: (0.5 * np.square((x - m) / np.exp(ls)) + ls).sum(axis=_pixels(x))),
        ("The constant and log sigma count once for each pixel, not once for an image.",
         lambda x, m, ls: (0.5 * np.square((x - m) / np.exp(ls))).sum(axis=_pixels(x)) + ls + 0.5 * LOG_2PI),
        ("A factor 1/2 is missing before the squared error.",
         lambda x, m, ls: (np.square((x - m) / np.exp(ls)) + ls + 0.5 * LOG_2PI).sum(axis=_pixels(x))),
        ("The squared error is divided by sigma, not by its square.",
         lambda x, m, ls: (0.5 * np.square(x - m) / np.exp(ls) + ls + 0.5 * LOG_2PI).sum(axis=_pixels(x))),
        ("This is the squared error alone: it sets sigma for you, and the KL's weight with it.",
         lambda x, m, ls: np.square(x - m).sum(axis=_pixels(x))),
        ("You averaged over the pixels: sum over them.", lambda x, m, ls: _gaussian(x, m, ls) / x[0].size),
        ("The sign is flipped.", lambda x, m, ls: -_gaussian(x, m, ls)),
        ("The batch mean was taken inside: give one number an image, (B,).",
         lambda x, m, ls: _gaussian(x, m, ls).mean()),
    ],
    learned_through=True,
)  # fmt: skip


def _edges(level: Array) -> tuple[Array, Array]:
    low = np.where(level <= 0, -np.inf, level / 256)
    return low, np.where(level >= 255, np.inf, (level + 1) / 256)


def _cdf(edge: Array, location: Array, scale: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return 1 / (1 + np.exp(-np.clip((edge - location) / scale, -700, 700)))


def _cdf_slope(edge: Array, location: Array, scale: Array) -> Array:
    below = _cdf(edge, location, scale)
    return below * (1 - below) / scale


def _mass(level: Array, location: Array, scale: Array) -> Array:
    low, high = _edges(np.asarray(level))
    return _cdf(high, location, scale) - _cdf(low, location, scale)


_LEVELS = [
    (np.array([0.0, 1.0, 100.0, 254.0, 255.0], np.float32), np.array([-0.1, 0.02, 0.4, 0.9, 0.97], np.float32),
     np.array([0.05, 0.03, 0.1, 0.08, 0.02], np.float32)),
    (np.arange(0, 256, 15).astype(np.float32), np.full(18, 0.5, np.float32), np.full(18, 0.2, np.float32)),
    (np.array([9.0, 10.0, 11.0], np.float32), np.full(3, 10.5 / 256, np.float32),
     np.full(3, 0.0005, np.float32)),  # narrower than a level
]  # fmt: skip
logistic_mass = Exercise(
    "logistic_mass",
    "logistic_mass(level, location, scale) -> the probability of a grey level 0..255 under a discretized logistic: the "
    "mass between level / 256 and (level + 1) / 256, and all that lies beyond the ends at levels 0 and 255",
    _LEVELS,
    _mass,
    [
        ("This is the density at the level, not the mass of an interval: divide nothing, take a difference.",
         lambda k, m, s: np.exp(-(k / 256 - m) / s) / (s * (1 + np.exp(-(k / 256 - m) / s)) ** 2)),
        ("This is the density times the width of a level, which exceeds 1 where the scale is smaller than that: "
         "take a difference.",
         lambda k, m, s: np.where(
             (k > 0) & (k < 255), _cdf_slope((k + 0.5) / 256, m, s) / 256, _mass(k, m, s))),
        ("What lies beyond black and white is lost: levels 0 and 255 take the two tails.",
         lambda k, m, s: _cdf((k + 1) / 256, m, s) - _cdf(k / 256, m, s)),
        ("Levels are 256, not 255: an interval has the width 1 / 256.",
         lambda k, m, s: _cdf(np.where(k >= 255, np.inf, (k + 1) / 255), m, s)
         - _cdf(np.where(k <= 0, -np.inf, k / 255), m, s)),
        ("The intervals lie around the level here: level k goes from k / 256 to (k + 1) / 256.",
         lambda k, m, s: _cdf(np.where(k >= 255, np.inf, (k + 0.5) / 256), m, s)
         - _cdf(np.where(k <= 0, -np.inf, (k - 0.5) / 256), m, s)),
        ("Only the upper end is taken: a mass is the difference of two values of the distribution function.",
         lambda k, m, s: _cdf(np.where(k >= 255, np.inf, (k + 1) / 256), m, s)),
        ("The difference has the wrong sign: a mass is positive.", lambda k, m, s: -_mass(k, m, s)),
        ("This is -log of the mass: the mass itself is wanted.", lambda k, m, s: -np.log(_mass(k, m, s))),
    ],
)  # fmt: skip

_SIZES = [(100.0, 784), (2100.5, 784), (18000.0, 4096)]
bits_per_pixel = Exercise(
    "bits_per_pixel",
    "bits_per_pixel(nats, pixels) -> a number: so many nats an image as bits for each of its pixels",
    _SIZES,
    lambda n, p: n / p / math.log(2),
    [
        ("These are nats per pixel: divide by log 2.", lambda n, p: n / p),
        ("Multiplied by log 2 where it divides: a nat is 1.44 bits.", lambda n, p: n / p * math.log(2)),
        ("These are bits per image: divide by the number of pixels.", lambda n, p: n / math.log(2)),
        ("log of 256 is taken for log of 2: these are bytes.", lambda n, p: n / p / math.log(256)),
        ("8 bits were added: that belongs to densities of dequantized pixels, these are probabilities.",
         lambda n, p: n / p / math.log(2) + 8),
        ("The sign is flipped.", lambda n, p: -n / p / math.log(2)),
    ],
)  # fmt: skip

# ---- Data --------------------------------------------------------------------------------------------------

_BYTES = [(np.array([[[[0], [1], [127]], [[128], [200], [255]]]], np.uint8),),
          (_RNG.integers(0, 256, (3, 4, 4, 1)).astype(np.uint8),)]  # fmt: skip
scale = Exercise(
    "scale",
    "scale(images) -> floats from 0 to 1, of the shape of the images (B, H, W, C) uint8",
    _BYTES,
    lambda x: x / 255.0,
    [
        ("Divide by 255, so that white is 1.", lambda x: x / 256.0),
        ("The values still go up to 255.", lambda x: x.astype(float)),
        ("These lie from -1 to 1: a probability lies from 0 to 1.", lambda x: x / 127.5 - 1.0),
        ("Whole division: all but white became 0.", lambda x: (x // 255).astype(float)),
        ("Black and white have changed places.", lambda x: 1.0 - x / 255.0),
        ("These are bits: that is the next step.", lambda x: (x >= 128).astype(float)),
    ],
    tolerance=1e-5,
)
threshold = Exercise(
    "threshold",
    "threshold(images) -> 1.0 where a byte is 128 or more and 0.0 elsewhere, of the shape of the images",
    _BYTES,
    lambda x: (x >= 128).astype(float),
    [
        ("127 became 1: half of 255 is 127.5.", lambda x: (x >= 127).astype(float)),
        ("128 became 0: half of 255 is 127.5.", lambda x: (x > 128).astype(float)),
        ("Bytes are compared with 0.5: all but black became 1.", lambda x: (x > 0.5).astype(float)),
        ("Black and white have changed places.", lambda x: (x < 128).astype(float)),
        ("The grey values stayed: this scales and does not threshold.", lambda x: x / 255.0),
        ("The bits are 255 where they should be 1.", lambda x: 255.0 * (x >= 128)),
        ("The integer division leaves black only: compare instead.", lambda x: (x // 255).astype(float)),
    ],
)
_DRAWS = [(x, _RNG.random(x.shape).astype(np.float32)) for (x,) in _BYTES]
_DRAWS.append((np.full((1, 2, 1, 1), 255, np.uint8), np.array([0.998, 0.0], np.float32).reshape(1, 2, 1, 1)))
binarize = Exercise(
    "binarize",
    "binarize(images, uniform) -> 1.0 with the probability byte / 255 and 0.0 otherwise, drawn with uniform noise in "
    "[0, 1)",
    _DRAWS,
    lambda x, u: (u < x / 255.0).astype(float),
    [
        ("The comparison is turned round: a white pixel became 0.", lambda x, u: (u > x / 255.0).astype(float)),
        ("Bytes are compared with noise in [0, 1): all but black became 1.", lambda x, u: (u < x).astype(float)),
        ("The noise is not used: this is a threshold.", lambda x, u: (x >= 128).astype(float)),
        ("The noise alone decides: it is compared with one half.", lambda x, u: (u < 0.5).astype(float)),
        ("Noise is added: that is dequantization, and no bit comes out.", lambda x, u: (x + u) / 256.0),
        ("The grey value is multiplied by the noise.", lambda x, u: x / 255.0 * u),
    ],
)
_WIDE = [(_RNG.integers(0, 256, (250, 250)).astype(np.uint8),), (np.arange(62500).reshape(250, 250).astype(np.int64),)]
crop = Exercise(
    "crop",
    "crop(photo) -> (84, 84): of a photo (250, 250) the rows from 92 to 175 and the columns from 83 to 166, both ends "
    "included",
    _WIDE,
    lambda a: a[92:176, 83:167],
    [
        ("Rows and columns have changed places: the first axis is y.", lambda a: a[83:167, 92:176]),
        ("The last row and column are missing: a slice leaves its end out.", lambda a: a[92:175, 83:166]),
        ("The first row and column are missing: counting starts at 0.", lambda a: a[93:176, 84:167]),
        ("The face is turned on its side: no transposition.", lambda a: a[92:176, 83:167].T),
        ("84 pixels in the middle are not where the face is.", lambda a: a[83:167, 83:167]),
        ("The photo came back whole.", lambda a: a),
    ],
)
_COUNTS = [(60_000, 50), (55_000, 128), (7, 50), (100, 50), (150, 50), (151, 50)]
steps_per_epoch = Exercise(
    "steps_per_epoch",
    "steps_per_epoch(images, batch_size) -> how many batches an epoch has, the last of which may be smaller",
    _COUNTS,
    lambda n, b: -(-n // b),
    [
        ("The last, smaller batch is lost: round up.", lambda n, b: n // b),
        ("One too many where the batches come out even.", lambda n, b: n // b + 1),
        ("A number of steps is whole: round up.", lambda n, b: n / b),
        ("Multiplied where it divides.", lambda n, b: n * b),
        ("Rounded to the nearest: the last images are lost half of the time.", lambda n, b: round(n / b)),
        ("These are the images left for the last batch.", lambda n, b: n % b),
    ],
)

# ---- The plane ---------------------------------------------------------------------------------------------

_N = [(3,), (7,), (10,)]


def _axis(n: int, low: float = 0.025, high: float = 0.975) -> Array:
    return np.array([NormalDist().inv_cdf(p) for p in np.linspace(low, high, n)])


axis = Exercise(
    "axis",
    "axis(n) -> (n,): the quantiles of a standard normal at n equal steps of probability from 0.025 to 0.975",
    _N,
    _axis,
    [
        ("These are equal steps of z: take equal steps of probability, and then the quantile function.",
         lambda n: np.linspace(_axis(2)[0], _axis(2)[1], n)),
        ("These are the probabilities: the quantile function is missing.", lambda n: np.linspace(0.025, 0.975, n)),
        ("The axis goes from high to low.", lambda n: _axis(n)[::-1]),
        ("The steps go from 0.05 to 0.95.", lambda n: _axis(n, 0.05, 0.95)),
        ("This is the distribution function: its inverse is wanted.",
         lambda n: np.array([NormalDist().cdf(p) for p in np.linspace(0.025, 0.975, n)])),
        ("The last step is missing: include 0.975.",
         lambda n: np.array([NormalDist().inv_cdf(p) for p in np.linspace(0.025, 0.975, n, endpoint=False)])),
        ("Equal steps from -1 to 1 show less than half of the prior.", lambda n: np.linspace(-1, 1, n)),
    ],
)  # fmt: skip


def _grid(n: int) -> Array:
    x, y = np.meshgrid(_axis(n), _axis(n)[::-1])
    return np.stack([x, y], axis=-1)


grid = Exercise(
    "grid",
    "grid(n) -> (n, n, 2): codes over axis(n), the first dimension growing to the right (the second index) and the "
    "second growing upwards (from the last row to the first)",
    _N,
    _grid,
    [
        ("The second dimension grows downwards: a picture's first row is its top.",
         lambda n: np.stack(np.meshgrid(_axis(n), _axis(n)), axis=-1)),
        ("Rows and columns have changed places: the first dimension must grow along the second index.",
         lambda n: _grid(n).transpose(1, 0, 2)),
        ("The first dimension grows along the first index: that is meshgrid with indexing='ij'.",
         lambda n: np.stack(np.meshgrid(_axis(n), _axis(n), indexing="ij"), axis=-1)),
        ("The two dimensions have changed places in the last axis.", lambda n: _grid(n)[..., ::-1]),
        ("The dimensions come first, (2, n, n): they go last.", lambda n: np.moveaxis(_grid(n), -1, 0)),
        ("The codes are one long list, (n * n, 2): keep rows and columns.", lambda n: _grid(n).reshape(-1, 2)),
        ("The first dimension grows to the left.", lambda n: _grid(n)[:, ::-1]),
    ],
)  # fmt: skip
_TILES = [(_RNG.random((6, 5, 4)), 2, 3), (_RNG.random((4, 3, 3)), 2, 2)]


def _mosaic(tiles: Array, rows: int, columns: int) -> Array:
    _, h, w = tiles.shape
    return tiles.reshape(rows, columns, h, w).transpose(0, 2, 1, 3).reshape(rows * h, columns * w)


mosaic = Exercise(
    "mosaic",
    "mosaic(tiles, rows, columns) -> (rows * H, columns * W): images (rows * columns, H, W) as one picture, row by row",
    _TILES,
    _mosaic,
    [
        ("A reshape alone cuts every tile to pieces: move the axes before.",
         lambda t, r, c: t.reshape(r * t.shape[1], c * t.shape[2])),
        ("The tiles go down the columns first: row by row.",
         lambda t, r, c: t.reshape(c, r, *t.shape[1:]).transpose(1, 2, 0, 3).reshape(r * t.shape[1], c * t.shape[2])),
        ("The tiles lie on top of each other in one column.", lambda t, r, c: t.reshape(-1, t.shape[2])),
        ("The tiles lie side by side in one row.", lambda t, r, c: np.concatenate(list(t), axis=1)),
        ("The picture is upside down: the first tile belongs to the top.",
         lambda t, r, c: _mosaic(t.reshape(r, c, *t.shape[1:])[::-1].reshape(t.shape), r, c)),
        ("Rows and columns of the picture have changed places.", lambda t, r, c: _mosaic(t, r, c).T),
    ],
)  # fmt: skip
_ENDS = [(_normal(3), _normal(3), 5), (_normal(2), _normal(2), 4)]
interpolate = Exercise(
    "interpolate",
    "interpolate(start, end, n) -> (n, D): n codes in equal steps from start to end, both (D,) and both included",
    _ENDS,
    lambda a, b, n: a + np.linspace(0, 1, n)[:, None] * (b - a),
    [
        ("The last code is missing: include the end.",
         lambda a, b, n: a + np.linspace(0, 1, n, endpoint=False)[:, None] * (b - a)),
        ("It goes from the end to the start.", lambda a, b, n: b + np.linspace(0, 1, n)[:, None] * (a - b)),
        ("n steps have n + 1 codes: n codes are wanted.",
         lambda a, b, n: a + np.linspace(0, 1, n + 1)[:, None] * (b - a)),
        ("The codes lie along the second axis, (D, n): they go along the first.",
         lambda a, b, n: (a + np.linspace(0, 1, n)[:, None] * (b - a)).T),
        ("The difference is not scaled from the start: it starts at 0.",
         lambda a, b, n: np.linspace(0, 1, n)[:, None] * (b - a)),
        ("This is the middle over and over.", lambda a, b, n: np.tile((a + b) / 2, (n, 1))),
    ],
)  # fmt: skip
_PLACES = [(_normal(40, 3), _normal(3)), (_normal(25, 2, scale=2.0), _normal(2)), (_normal(60, 4), 2 * _normal(4))]
nearest = Exercise(
    "nearest",
    "nearest(codes, z) -> a whole number: which of the codes (N, D), counted from 0, lies nearest to z (D,)",
    _PLACES,
    lambda c, z: np.square(c - z).sum(axis=1).argmin(),
    [
        ("This is the distance of the nearest code: its index is wanted.",
         lambda c, z: np.sqrt(np.square(c - z).sum(axis=1).min())),
        ("These are the distances of all codes: which is the smallest?",
         lambda c, z: np.sqrt(np.square(c - z).sum(axis=1))),
        ("This is the code that lies farthest away.", lambda c, z: np.square(c - z).sum(axis=1).argmax()),
        ("This is the code nearest to 0: z is not used.", lambda c, z: np.square(c).sum(axis=1).argmin()),
        ("Differences of both signs cancel: square them before the sum.", lambda c, z: (c - z).sum(axis=1).argmin()),
        ("Only the first dimension was compared.", lambda c, z: np.abs(c[:, 0] - z[0]).argmin()),
        ("The largest product is not the smallest distance: long codes win.", lambda c, z: (c @ z).argmax()),
        ("This is the code itself: its index is wanted.", lambda c, z: c[np.square(c - z).sum(axis=1).argmin()]),
        ("Counting starts at 0.", lambda c, z: np.square(c - z).sum(axis=1).argmin() + 1),
    ],
)  # fmt: skip
_SLIDES = [
    (_normal(4), 1, _normal(5)), (_normal(3), 2, _normal(6)), (_normal(2), 0, _normal(3)),
    (np.arange(3), 0, _normal(4)),
]  # fmt: skip


def _sweep(z: Array, d: int, v: Array) -> Array:
    codes = np.tile(np.asarray(z, np.result_type(z, v)), (len(v), 1))
    codes[:, d] = v
    return codes


sweep = Exercise(
    "sweep",
    "sweep(z, dimension, values) -> (n, D): n times the code z (D,), with one of the values (n,) in that dimension",
    _SLIDES,
    _sweep,
    [
        ("The other dimensions became 0: they stay as they are in z.", lambda z, d, v: _sweep(0 * z, d, v)),
        ("The values were added to what z has there: they take its place.", lambda z, d, v: _sweep(z, d, z[d] + v)),
        ("All dimensions move: only one does.", lambda z, d, v: np.tile(v[:, None], (1, len(z)))),
        ("Another dimension moves: the first has the number 0.", lambda z, d, v: _sweep(z, d - 1, v)),
        ("The codes lie along the second axis, (D, n): they go along the first.", lambda z, d, v: _sweep(z, d, v).T),
        ("Nothing moves: put the values in.", lambda z, d, v: np.tile(z, (len(v), 1))),
        ("A code of whole numbers cuts the values off: make it floats first.",
         lambda z, d, v: _sweep(z, d, v.astype(z.dtype))),
        ("Every row has the last value: is it one array, changed again and again? Copy z for each.",
         lambda z, d, v: _sweep(z, d, np.full(len(v), v[-1]))),
    ],
)  # fmt: skip
_LABELLED = [(_normal(40, 3), np.arange(40) % 4 == 0), (_normal(9, 2), np.arange(9) < 4)]


def _direction(z: Array, has: Array) -> Array:
    has = np.asarray(has, bool)
    return np.asarray(z)[has].mean(axis=0) - np.asarray(z)[~has].mean(axis=0)


direction = Exercise(
    "direction",
    "direction(codes, has) -> (D,): from the mean code (N, D) of images without an attribute to the mean of those with "
    "it, has (N,) bool",
    _LABELLED,
    _direction,
    [
        ("It leads away from the attribute: the mean with it less the mean without.", lambda z, h: -_direction(z, h)),
        ("This is the mean of the images with the attribute: take off the mean of those without.",
         lambda z, h: z[h].mean(axis=0)),
        ("Taken off is the mean of all images, those with the attribute among them.",
         lambda z, h: z[h].mean(axis=0) - z.mean(axis=0)),
        ("Sums where means belong: the larger group wins.", lambda z, h: z[h].sum(axis=0) - z[~h].sum(axis=0)),
        ("The direction has lost its length: how far apart the groups lie matters.",
         lambda z, h: _direction(z, h) / np.linalg.norm(_direction(z, h))),
        ("The mean was taken over the dimensions too.", lambda z, h: z[h].mean() - z[~h].mean()),
    ],
)  # fmt: skip

_PAIRS = [(_normal(3), _normal(3)), (_normal(10), 2.0 * _normal(10)), (np.array([1.0, 2.0]), np.array([0.0, 4.0]))]


def _orthogonal(v: Array, other: Array) -> Array:
    return np.asarray(v) - np.dot(v, other) / np.dot(other, other) * np.asarray(other)


orthogonal = Exercise(
    "orthogonal",
    "orthogonal(direction, other) -> (D,): a direction without its part along another, so that their product is 0",
    _PAIRS,
    _orthogonal,
    [
        ("The other direction need not have length 1: divide by its product with itself.",
         lambda v, o: v - np.dot(v, o) * o),
        ("Divided by the length of the other direction, not by its square.",
         lambda v, o: v - np.dot(v, o) / np.linalg.norm(o) * o),
        ("The whole other direction is taken off: only as much of it as the first one holds.", lambda v, o: v - o),
        ("This is the part along the other direction: what is left without it is wanted.",
         lambda v, o: np.dot(v, o) / np.dot(o, o) * np.asarray(o)),
        ("The part was added: the direction now has twice as much of the other one.",
         lambda v, o: v + np.dot(v, o) / np.dot(o, o) * np.asarray(o)),
        ("The roles are exchanged: take the part off the first direction.", lambda v, o: _orthogonal(o, v)),
        ("The direction was scaled to length 1: its length matters.",
         lambda v, o: _orthogonal(v, o) / np.linalg.norm(_orthogonal(v, o))),
    ],
)  # fmt: skip

# ---- How good is it ----------------------------------------------------------------------------------------

_WEIGHTS = [(_normal(4, 6, scale=3.0) - 90,), (_normal(2, 50, scale=20.0) - 1000,), (_normal(3, 1) - 5,)]


def _lse(a: Array, axis: int = 1) -> Array:
    return np.logaddexp.reduce(np.asarray(a, np.float64), axis=axis)


iwae = Exercise(
    "iwae",
    "iwae(log_w) -> (B,): the importance-weighted bound log(1/K sum_k w_k) from log weights (B, K)",
    _WEIGHTS,
    lambda w: _lse(w) - math.log(w.shape[1]),
    [
        ("The mean of the logarithms is the ELBO: take the logarithm of the mean.", lambda w: w.mean(axis=1)),
        ("log K is missing: a mean of weights, not their sum.", _lse),
        ("log K is added: it is taken off.", lambda w: _lse(w) + math.log(w.shape[1])),
        ("The largest weight alone: the others count too.", lambda w: w.max(axis=1)),
        ("The mean was taken over the images: over the samples, axis 1.", lambda w: _lse(w, 0) - math.log(len(w))),
        ("The batch mean was taken inside: give one number an image, (B,).",
         lambda w: (_lse(w) - math.log(w.shape[1])).mean()),
        ("K itself is taken off, not its logarithm.", lambda w: _lse(w) - w.shape[1]),
    ],
)  # fmt: skip
_PLANE = [(_normal(3, 100, scale=4.0) - 80, 0.01), (_normal(2, 64, scale=2.0) - 500, 0.25)]
log_px = Exercise(
    "log_px",
    "log_px(log_joint, area) -> (B,): log p(x) as a sum over cells of the plane, from log p(x, z) in each cell's "
    "middle (B, G) and the area of a cell",
    _PLANE,
    lambda a, area: _lse(a) + math.log(area),
    [
        ("The area of a cell is missing.", lambda a, area: _lse(a)),
        ("The area is added, not its logarithm.", lambda a, area: _lse(a) + area),
        ("The logarithm of the area is taken off: it is added.", lambda a, area: _lse(a) - math.log(area)),
        ("A mean over the cells where a sum belongs.", lambda a, area: _lse(a) - math.log(a.shape[1])),
        ("The highest cell alone: an integral sums all of them.", lambda a, area: a.max(axis=1) + math.log(area)),
        ("A sum of logarithms is no logarithm of a sum.", lambda a, area: a.sum(axis=1) + math.log(area)),
        ("The square root of the area, its side, was used.", lambda a, area: _lse(a) + 0.5 * math.log(area)),
    ],
)  # fmt: skip
posterior = Exercise(
    "posterior",
    "posterior(log_joint) -> (B, G): the share of each cell in p(z | x), from log p(x, z) of equal cells (B, G)",
    [(a,) for a, _ in _PLANE],
    lambda a: np.exp(a - _lse(a)[:, None]),
    [
        ("These are logarithms: take the exponential.", lambda a: a - _lse(a)[:, None]),
        ("Only relative to the highest cell: the shares of an image must add up to 1.",
         lambda a: np.exp(a - a.max(axis=1, keepdims=True))),
        ("The shares of a cell add up to 1 over the images: over the cells, axis 1.",
         lambda a: np.exp(a - _lse(a, 0)[None])),
        ("The shares add up to 1 over all images together: for each image.",
         lambda a: np.exp(a - _lse(a).max() - np.log(np.exp(_lse(a) - _lse(a).max()).sum()))),
        ("1 where the posterior is highest and 0 elsewhere: that is its mode.",
         lambda a: (a == a.max(axis=1, keepdims=True)).astype(float)),
        ("The logarithms themselves were divided by their sum.", lambda a: a / a.sum(axis=1, keepdims=True)),
    ],
)  # fmt: skip


def _aggregate(m: Array, lv: Array) -> Array:
    return np.stack([m.mean(axis=0), m.var(axis=0) + np.exp(lv).mean(axis=0)])


aggregate = Exercise(
    "aggregate",
    "aggregate(z_mean, z_log_var) -> (2, D): mean and variance in each dimension of the mixture of all q(z | x_n)",
    [(_normal(30, 2), _normal(30, 2)), (_normal(8, 3, scale=2.0), _normal(8, 3))],
    _aggregate,
    [
        ("The widths of the Gaussians are missing: a mixture is wider than its centres.",
         lambda m, lv: np.stack([m.mean(axis=0), m.var(axis=0)])),
        ("The spread of the centres is missing.", lambda m, lv: np.stack([m.mean(axis=0), np.exp(lv).mean(axis=0)])),
        ("These are standard deviations: variances are wanted.",
         lambda m, lv: np.stack([m.mean(axis=0), np.sqrt(m.var(axis=0) + np.exp(lv).mean(axis=0))])),
        ("sigma was averaged: its square, exp(z_log_var), is the variance.",
         lambda m, lv: np.stack([m.mean(axis=0), m.var(axis=0) + np.exp(lv / 2).mean(axis=0)])),
        ("The log-variances were averaged before the exponential.",
         lambda m, lv: np.stack([m.mean(axis=0), m.var(axis=0) + np.exp(lv.mean(axis=0))])),
        ("The mean was taken over the dimensions: over the images, axis 0.",
         lambda m, lv: np.stack([m.mean(axis=1), m.var(axis=1) + np.exp(lv).mean(axis=1)])),
    ],
)  # fmt: skip
_CODES = [(_normal(50, 4) * np.array([1.0, 0.02, 0.5, 0.05], np.float32),),
          (0.2 * _normal(20, 3) + np.array([3.0, 0.0, -1.0], np.float32),),
          (_normal(30, 2, scale=0.01) + 5,),
          (_normal(30, 3, scale=0.001) + np.array([0.05, 0.5, 0.0], np.float32),)]  # fmt: skip
active_units = Exercise(
    "active_units",
    "active_units(z_mean) -> a number: of how many dimensions the mean (N, D) varies over the images by more than 0.01",
    _CODES,
    lambda m: (m.var(axis=0) > 0.01).sum(),
    [
        ("The standard deviation was compared: the variance is.", lambda m: (m.std(axis=0) > 0.01).sum()),
        ("The mean code was compared: how it varies matters, not where it lies.",
         lambda m: (np.abs(m.mean(axis=0)) > 0.01).sum()),
        ("The mean square counts how far they lie from 0, too.", lambda m: (np.square(m).mean(axis=0) > 0.01).sum()),
        ("Counted are images: the variance is taken over axis 0.", lambda m: (m.var(axis=1) > 0.01).sum()),
        ("These are the dimensions that are not used.", lambda m: (m.var(axis=0) <= 0.01).sum()),
        ("A list of dimensions: their number is wanted.", lambda m: (m.var(axis=0) > 0.01).astype(float)),
    ],
)  # fmt: skip
_TWO = [(m, lv, _normal(*m.shape), _normal(*m.shape)) for m, lv in _GAUSSIANS]


def _kl_two(m: Array, lv: Array, n: Array, lw: Array) -> Array:
    return 0.5 * (lw - lv + (np.exp(lv) + np.square(m - n)) / np.exp(lw) - 1).sum(axis=1)


kl_between = Exercise(
    "kl_between",
    "kl_between(mean_q, log_var_q, mean_p, log_var_p) -> (B,): KL(q || p) of diagonal Gaussians in nats, (B, D) each",
    _TWO,
    _kl_two,
    [
        ("q and p have changed places: a KL is not symmetric.", lambda m, lv, n, lw: _kl_two(n, lw, m, lv)),
        ("This is the KL to N(0, 1): p has a mean and a variance of its own.", lambda m, lv, n, lw: _kl(m, lv)),
        ("A factor 1/2 is missing.", lambda m, lv, n, lw: 2 * _kl_two(m, lv, n, lw)),
        ("You averaged over the dimensions: sum over them.",
         lambda m, lv, n, lw: _kl_two(m, lv, n, lw) / m.shape[1]),
        ("The distance of the means is not divided by p's variance.",
         lambda m, lv, n, lw: 0.5 * (lw - lv + np.exp(lv - lw) + np.square(m - n) - 1).sum(axis=1)),
        ("The means differ, and their distance is missing.",
         lambda m, lv, n, lw: 0.5 * (lw - lv + np.exp(lv - lw) - 1).sum(axis=1)),
        ("The log-variances are taken off the wrong way round.",
         lambda m, lv, n, lw: 0.5 * (lv - lw + (np.exp(lv) + np.square(m - n)) / np.exp(lw) - 1).sum(axis=1)),
    ],
    learned_through=True,
)  # fmt: skip
_GAPS = [(np.array([-130.0, -120.5]), np.array([-128.0, -119.0]), np.array([-125.0, -118.5])),
         (_normal(5) - 140, _normal(5) - 120, _normal(5) - 100)]  # fmt: skip
gaps = Exercise(
    "gaps",
    "gaps(encoder_elbo, best_elbo, log_px) -> (2,): the mean approximation gap (what no Gaussian reaches) and the mean "
    "amortization gap (what this encoder misses of it), each argument (B,) in nats",
    _GAPS,
    lambda e, b, p: np.array([(p - b).mean(), (b - e).mean()]),
    [
        ("The two gaps have changed places.", lambda e, b, p: np.array([(b - e).mean(), (p - b).mean()])),
        ("The signs are flipped: a gap is not negative.", lambda e, b, p: np.array([(b - p).mean(), (e - b).mean()])),
        ("The first is the whole distance from log p(x): the best Gaussian divides it.",
         lambda e, b, p: np.array([(p - e).mean(), (b - e).mean()])),
        ("Sums over the images: means are wanted.", lambda e, b, p: np.array([(p - b).sum(), (b - e).sum()])),
        ("The mean over the images is missing.", lambda e, b, p: np.stack([p - b, b - e])),
        ("The second is the whole distance: it starts from the best Gaussian.",
         lambda e, b, p: np.array([(p - b).mean(), (p - e).mean()])),
    ],
)  # fmt: skip

# ---- Famous losses, and training ---------------------------------------------------------------------------

_SCALES = [("mean", "sum", 784, 2), ("sum", "mean", 784, 2), ("mean", "mean", 784, 2), ("sum", "sum", 784, 10),
           ("mean", "mean", 4096, 10)]  # fmt: skip


def _beta(pixels: str, dims: str, n: int, d: int) -> float:
    return (n if pixels == "mean" else 1) / (d if dims == "mean" else 1)


real_beta = Exercise(
    "real_beta",
    "real_beta(over_pixels, over_dimensions, pixels, dimensions) -> the weight of the KL that a loss really has, where "
    "each of its two terms takes the 'sum' or the 'mean'",
    _SCALES,
    _beta,
    [
        ("It is one over that: a mean over pixels makes the KL weigh more.", lambda p, q, n, d: 1 / _beta(p, q, n, d)),
        ("The mean over the dimensions counts too: it divides the KL.", lambda p, q, n, d: _beta(p, "sum", n, d)),
        ("The mean over the pixels counts too: it divides the reconstruction.",
         lambda p, q, n, d: _beta("sum", q, n, d)),
        ("1 is what the loss says: a mean is a weight.", lambda p, q, n, d: 1.0),
        ("Means over dimensions divide the KL: beta becomes smaller.",
         lambda p, q, n, d: (n if p == "mean" else 1) * (d if q == "mean" else 1)),
        ("Sum and mean have changed places.",
         lambda p, q, n, d: (1 if p == "mean" else n) / (1 if q == "mean" else d)),
    ],
)  # fmt: skip
_STEPS = [(0, 100, 0.001), (25, 100, 0.001), (50, 100, 0.01), (100, 100, 0.001)]
cosine_rate = Exercise(
    "cosine_rate",
    "cosine_rate(step, steps, rate) -> the learning rate at a step: half a cosine, from rate at step 0 to 0 at the end",
    _STEPS,
    lambda t, n, r: 0.5 * r * (1 + math.cos(math.pi * t / n)),
    [
        ("A factor 1/2 is missing: it starts at twice the rate.", lambda t, n, r: r * (1 + math.cos(math.pi * t / n))),
        ("A whole cosine: it comes back up.", lambda t, n, r: 0.5 * r * (1 + math.cos(2 * math.pi * t / n))),
        ("A straight line, not a cosine.", lambda t, n, r: r * (1 - t / n)),
        ("It grows: the sign of the cosine.", lambda t, n, r: 0.5 * r * (1 - math.cos(math.pi * t / n))),
        ("The rate goes below 0: add 1 to the cosine and take half.", lambda t, n, r: r * math.cos(math.pi * t / n)),
        ("A quarter of a cosine: it falls too slowly at first.", lambda t, n, r: r * math.cos(0.5 * math.pi * t / n)),
        ("This is the share of the rate: multiply by it.", lambda t, n, r: 0.5 * (1 + math.cos(math.pi * t / n))),
    ],
    tolerance=1e-7,
)  # fmt: skip
_FREQUENCIES = [(np.array([5, 3, 2]), 1), (np.array([1, 1, 1, 1]), 2), (np.array([7, 2, 1]), 0)]
code_length = Exercise(
    "code_length",
    "code_length(counts, symbol) -> bits that an ideal code spends on a symbol that came so often among all counts",
    _FREQUENCIES,
    lambda c, s: -math.log2(c[s] / c.sum()),
    [
        ("These are nats: take the logarithm to base 2.", lambda c, s: -math.log(c[s] / c.sum())),
        ("The sign is flipped: a share below 1 has a negative logarithm.", lambda c, s: math.log2(c[s] / c.sum())),
        ("This is the probability: its -log2 is the length.", lambda c, s: c[s] / c.sum()),
        ("Whole bits: an arithmetic code spends parts of a bit.", lambda c, s: math.ceil(-math.log2(c[s] / c.sum()))),
        ("The same for all symbols: rare ones take more bits.", lambda c, s: math.log2(len(c))),
        ("This is the mean over all symbols, the entropy.",
         lambda c, s: -sum(n / c.sum() * math.log2(n / c.sum()) for n in c)),
    ],
)  # fmt: skip

# A stack of symbols in one whole number, the asymmetric numeral system of Duda: start and frequency of a symbol are
# parts of 2^precision.
_STACK = [(1003, 3, 5, 4), (77, 1, 3, 3), (12_346, 10, 6, 5), (9, 2, 1, 2)]
push = Exercise(
    "push",
    "push(state, start, frequency, precision) -> the state, a whole number, with one more symbol on it: the quotient "
    "by its frequency moved up by precision bits, plus its start, plus the remainder",
    _STACK,
    lambda s, c, f, r: (s // f << r) + c + s % f,
    [
        ("The start is missing: every symbol would look like the first.", lambda s, c, f, r: (s // f << r) + s % f),
        ("The remainder is missing: what was below cannot be found again.", lambda s, c, f, r: (s // f << r) + c),
        ("Quotient and remainder have changed places.", lambda s, c, f, r: (s % f << r) + c + s // f),
        ("Move up by precision bits: multiply by 2^precision, not by precision.",
         lambda s, c, f, r: s // f * r + c + s % f),
        ("A whole number is needed: // and not /.", lambda s, c, f, r: s / f * 2**r + c + s % f),
        ("This is how a symbol is taken off.", lambda s, c, f, r: f * (s >> r) + s % 2**r - c),
        ("The frequency is missing: all symbols would cost the same.", lambda s, c, f, r: (s << r) + c),
    ],
    tolerance=1e-6,
    large=[(3**200, 3, 5, 4)],
)  # fmt: skip
_TAKEN = [(push.reference(*case), *case[1:]) for case in _STACK]
pop = Exercise(
    "pop",
    "pop(state, start, frequency, precision) -> the state before push put that symbol on it",
    _TAKEN,
    lambda s, c, f, r: f * (s >> r) + s % 2**r - c,
    [
        ("The start has to be taken off.", lambda s, c, f, r: f * (s >> r) + s % 2**r),
        ("The start is taken off, not added.", lambda s, c, f, r: f * (s >> r) + s % 2**r + c),
        ("The frequency is missing: the quotient was one by it.", lambda s, c, f, r: (s >> r) + s % 2**r - c),
        ("The remainder is missing.", lambda s, c, f, r: f * (s >> r)),
        ("The lowest precision bits are s % 2^precision, not s % precision.",
         lambda s, c, f, r: f * (s >> r) + s % r - c),
        ("This puts another symbol on.", lambda s, c, f, r: (s // f << r) + c + s % f),
    ],
    tolerance=1e-6,
    large=[(3**200, 3, 5, 4)],
)  # fmt: skip
