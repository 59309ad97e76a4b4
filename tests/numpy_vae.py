"""The ELBO of a model in NumPy, in double precision: another hand, so that the package's numbers have a witness.

Only the weights are taken from the model, layer by layer; every operation and every likelihood is written here again.
"""

import math

import numpy as np

erf = np.vectorize(math.erf)


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def softplus(x):
    return np.logaddexp(0.0, x)


def conv(x, kernel, bias, stride):
    """A convolution with padding 'same', (B, H, W, C), (k, k, C, N) -> (B, ceil(H / stride), ceil(W / stride), N)."""
    size = kernel.shape[0]
    pads = []
    for side in x.shape[1:3]:
        total = max((math.ceil(side / stride) - 1) * stride + size - side, 0)
        pads.append((total // 2, total - total // 2))
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("bhwcij,ijcn->bhwn", windows, kernel, optimize=True) + bias


def forward(network, x):
    for layer in network.layers:
        weights = [np.asarray(weight, np.float64) for weight in layer.get_weights()]
        match type(layer).__name__:
            case "ZeroPadding2D":
                x = np.pad(x, [(0, 0), *layer.padding, (0, 0)])
            case "Conv2D":
                x = conv(x, *weights, layer.strides[0])
            case "Flatten":
                x = x.reshape(len(x), -1)
            case "Dense":
                x = x @ weights[0] + weights[1]
            case "Reshape":
                x = x.reshape(len(x), *layer.target_shape)
            case "DepthToSpace":
                b, (n, h, w, c) = layer.block, x.shape
                x = x.reshape(n, h, w, b, b, c // b**2).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * b, w * b, -1)
            case "Cropping2D":
                (top, bottom), (left, right) = layer.cropping
                x = x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]
            case name:
                raise TypeError(f"{name} has no NumPy here")
        if getattr(layer, "activation", None) is not None and layer.activation.__name__ == "gelu":
            x = gelu(x)
    return x


def prepared(config, images, uniform):
    images = images.astype(np.float64)
    if config.binarize == "threshold":
        return (images > 127).astype(np.float64)
    if config.binarize == "dynamic":
        return (images / 255 > uniform).astype(np.float64)
    return (images + (0.5 if uniform is None else uniform)) / 256


def nll(model, x, out):
    match model.config.likelihood:
        case "bernoulli":
            each = softplus(out) - x * out
        case "continuous_bernoulli":
            # log of the integral of exp(l t) over [0, 1], near 0 by its series
            safe = np.where(np.abs(out) < 1e-3, 1.0, out)
            high = np.maximum(safe, 0)
            log_integral = high + np.log(np.abs((np.exp(safe - high) - np.exp(-high)) / safe))
            each = np.where(np.abs(out) < 1e-3, out / 2 + out**2 / 24, log_integral) - x * out
        case "gaussian":
            sigma = max(math.exp(float(model.raw_log_sigma)), 1 / 256)
            mean = 1 / (1 + np.exp(-out))
            each = 0.5 * ((x - mean) / sigma) ** 2 + math.log(sigma) + 0.5 * math.log(2 * math.pi)
        case "discretized_logistic":
            location, raw = np.split(out, 2, axis=-1)
            scale, level = np.exp(-3 + 5 * np.tanh(raw / 5)), np.floor(x * 256)
            low, high = ((edge / 256 - 0.5 - location) / scale for edge in (level, level + 1))
            low, high = np.where(level == 0, -np.inf, low), np.where(level == 255, np.inf, high)
            mirrored = low + high > 0  # where both values of the distribution function would be close to 1
            low, high = np.where(mirrored, -high, low), np.where(mirrored, -low, high)
            upper, lower = -softplus(-high), -softplus(-low)  # their logarithms
            each = -(upper + np.log1p(-np.exp(lower - upper)))
    return each.reshape(len(x), -1).sum(axis=1)


def elbo(model, images, epsilon, uniform=None):
    """nll and kl of images (B, H, W, C) uint8, two of (B,)."""
    x = prepared(model.config, images, uniform)
    mean, raw = np.split(forward(model.encoder, x), 2, axis=1)
    log_var = 20 * np.tanh(raw / 20)
    out = forward(model.decoder, mean + np.exp(log_var / 2) * np.asarray(epsilon, np.float64))
    return nll(model, x, out), 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).sum(axis=1)
