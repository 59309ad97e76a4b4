"""Images that training makes from others: altered copies for the encoder alone, and mirror images.

An encoder that has seen each image many times knows the codes of those images and is far off on new ones: most
of the distance between the ELBO of training and of test images is its error, not the decoder's. Shifted, turned and
stretched copies are new images to infer a code for. The decoder must not learn from them, because it is to model
the data and not the copies; pickles/README.md has the measurements.
"""

from __future__ import annotations

from vae_lib.backend import tf

SHIFT = 0.02  # standard deviations: of the shift, as a share of the image's side,
TURN = 0.06  # of the rotation and of the slant, in radians,
STRETCH = 0.05  # of the logarithm of width and of height,
GAIN = 0.2  # and of the logarithm of the brightness, which makes strokes thicker or thinner when it is thresholded
FLIPPED = 0.03  # share of the pixels that are inverted where pixels are bits


def altered_copies(images: tf.Tensor, seed: tf.Tensor, *, bits: bool) -> tf.Tensor:
    """A copy of each image that is a little different, (B, H, W, C) uint8 -> float32 in 0..255.

    Everything follows from ``seed`` (two integers). ``bits`` says that pixels will be binarized, and inverts some.
    """
    size, side = tf.shape(images)[0], images.shape[1]
    draws = tf.random.stateless_normal([size, 7], seed)
    turn, slant, width, height, right, down, gain = tf.unstack(draws, axis=1)
    turn, slant = TURN * turn, TURN * slant
    width, height = tf.exp(STRETCH * width), tf.exp(STRETCH * height)
    a, b = tf.cos(turn) * width, slant - tf.sin(turn) * height  # output to input coordinates: [[a, b], [c, d]]
    c, d = tf.sin(turn) * width, tf.cos(turn) * height
    centre = (side - 1) / 2
    x = centre * (1.0 - a - b) + SHIFT * side * right
    y = centre * (1.0 - c - d) + SHIFT * side * down
    zero = tf.zeros_like(a)
    grey = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=tf.stack([a, b, x, c, d, y, zero, zero], axis=1),
        output_shape=images.shape[1:3],
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )
    grey = tf.minimum(grey * tf.exp(GAIN * gain)[:, None, None, None], 255.0)
    if bits:
        flipped = tf.random.stateless_uniform(tf.shape(grey), tf.random.experimental.stateless_fold_in(seed, 1))
        grey = tf.where(flipped < FLIPPED, 255.0 - grey, grey)
    return grey


def mirrored_at_random(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Each image or, as often, its mirror image, (B, H, W, C) -> the same; ``seed`` (two integers) says which."""
    turned = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed) < 0.5
    return tf.where(turned, images[:, :, ::-1], images)
