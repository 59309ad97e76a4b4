"""Exercises: right answers pass in every style, wrong ones never do, and the classic mistakes are named."""

import inspect
import math

import numpy as np
import pytest

from vae_lib import check
from vae_lib.backend import keras, tf
from vae_lib.check.grading import Exercise, agree, as_array, as_arrays

EXERCISES = {name: value for name, value in vars(check).items() if isinstance(value, Exercise)}
MISTAKES = [(name, i) for name, exercise in EXERCISES.items() for i in range(len(exercise.mistakes))]


def answers(exercise, function):
    return [as_array(function(*as_arrays(case))) for case in exercise.cases]


def test_there_are_thirty_exercises_with_five_mistakes_each():
    others = {"encoder", "decoder", "train_step", "pipeline", "follow"}
    assert len(EXERCISES) + len(others) >= 30
    assert set(check.__all__) == {*EXERCISES, *others, "Exercise", "Verdict"}
    for name, exercise in EXERCISES.items():
        assert exercise.name == name
        assert exercise.wanted.startswith(f"{name}(")
        assert len(exercise.mistakes) >= 5, name
        assert exercise.__doc__


@pytest.mark.parametrize("name", EXERCISES)
def test_the_reference_passes_and_says_so(name):
    exercise = EXERCISES[name]
    verdict = exercise(exercise.reference)
    assert verdict.passed, verdict
    assert bool(verdict)
    assert repr(verdict).startswith(f"passed: {name}. Equal to the reference on every case.")


@pytest.mark.parametrize("name", EXERCISES)
def test_answers_in_arrays_in_tensors_and_in_lists_pass(name):
    """The reference on arrays only; as a tensor of single precision; and as nested lists."""
    exercise = EXERCISES[name]

    def arrays_only(*case):
        assert not any(isinstance(value, tf.Tensor) for value in case), "no tensors, please"
        return exercise.reference(*case)

    def as_tensor(*case):
        result = exercise.reference(*(value.numpy() if isinstance(value, tf.Tensor) else value for value in case))
        return tf.cast(tf.constant(result), tf.float32)

    def as_list(*case):
        result = exercise.reference(*(np.asarray(value) if isinstance(value, tf.Tensor) else value for value in case))
        return np.asarray(result).tolist()

    for answer in (arrays_only, as_list) if exercise.large else (arrays_only, as_tensor, as_list):
        assert exercise(answer).passed, exercise(answer)


@pytest.mark.parametrize(("name", "number"), MISTAKES)
def test_a_classic_mistake_never_passes_and_is_named(name, number):
    exercise = EXERCISES[name]
    message, mistaken = exercise.mistakes[number]
    verdict = exercise(lambda *case: mistaken(*(np.asarray(v) if isinstance(v, tf.Tensor) else v for v in case)))
    assert not verdict.passed
    assert verdict.message == message


@pytest.mark.parametrize("name", EXERCISES)
def test_mistakes_differ_from_the_right_answer_and_from_each_other(name):
    exercise = EXERCISES[name]
    found = [("", answers(exercise, exercise.reference))]
    for message, mistaken in exercise.mistakes:
        result = answers(exercise, mistaken)
        for other, known in found:
            assert not agree(result, known, 3 * exercise.tolerance), (
                f"{message!r} looks like {other or 'the right one'!r}"
            )
        found.append((message, result))


@pytest.mark.parametrize("name", EXERCISES)
def test_other_wrong_answers_get_a_sentence_and_never_pass(name):
    exercise = EXERCISES[name]
    right = exercise.reference

    def slightly_off(*case):
        return np.asarray(right(*(np.asarray(v) if isinstance(v, tf.Tensor) else v for v in case))) * 1.003 + 1e-3

    def crashes(*case):
        raise ZeroDivisionError("division\nby zero")

    for wrong, words in (
        (slightly_off, "is right"),
        (lambda *case: None, "returns nothing"),
        (lambda *case: np.zeros([3, 1, 4, 1, 5]), "shape (3, 1, 4, 1, 5)"),
        (lambda *case: np.full(np.shape(right(*as_arrays(case))), np.nan), "not finite"),
        (lambda *case: "0.5", "no array of numbers"),
        (lambda *case: (np.zeros(2), np.zeros(3)), "arrays of different shapes"),
        (crashes, "ZeroDivisionError: division"),
        (3.0, "give the function itself"),
    ):
        verdict = exercise(wrong)
        assert not verdict.passed
        assert words in verdict.message, verdict
        assert "\n" not in verdict.message


def test_an_answer_that_spoils_its_arguments_spoils_nothing():
    def spoiling(z_mean, z_log_var):
        z_mean = np.asarray(z_mean)
        z_mean *= 0
        return z_mean.sum(axis=1)

    assert not check.kl(spoiling)
    assert check.kl(check.kl.reference)


def test_a_verdict_shows_itself_in_a_notebook():
    text = check.kl(lambda m, lv: (_ for _ in ()).throw(ValueError("<b>&")))._repr_html_()
    assert "&lt;b&gt;&amp;" in text
    assert "not yet" in text
    assert "passed" in check.kl(check.kl.reference)._repr_html_()


# ---- The same formulas in other hands: the lesson's, Keras' and this library's -----------------------------


def test_answers_as_a_learner_writes_them_pass():
    ops = keras.ops
    written = {
        "kl": [
            lambda m, lv: -0.5 * tf.reduce_sum(1 + lv - tf.square(m) - tf.exp(lv), axis=1),
            lambda m, lv: ops.sum(0.5 * (ops.exp(lv) + m**2 - 1) - 0.5 * lv, axis=-1),
            lambda m, lv: np.einsum("bd->b", (m * m + np.exp(lv) - 1 - lv) / 2),
        ],
        "bernoulli_nll": [
            lambda x, y: tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=y), [1, 2, 3]),
            lambda x, y: ops.sum(ops.softplus(y) - x * y, axis=(1, 2, 3)),
            lambda x, y: (np.logaddexp(0, y) - x * y).reshape(len(x), -1).sum(1),
        ],
        "sample": [
            lambda m, lv, e: m + tf.exp(lv / 2) * e,
            lambda m, lv, e: m + ops.sqrt(ops.exp(lv)) * e,
            lambda m, lv, e: np.array(m) + np.array(e) * np.exp(np.array(lv)) ** 0.5,
        ],
        "iwae": [
            lambda w: tf.reduce_logsumexp(w, axis=1) - tf.math.log(float(w.shape[1])),
            lambda w: ops.logsumexp(w, axis=-1) - math.log(w.shape[-1]),
            lambda w: np.log(np.mean(np.exp(w - w.max(1, keepdims=True)), axis=1)) + w.max(1),
        ],
        "grid": [
            lambda n: np.array([[(x, y) for x in check.axis.reference(n)] for y in check.axis.reference(n)[::-1]]),
            lambda n: tf.stack(
                tf.meshgrid(*(tf.math.ndtri(tf.linspace(a, 1 - a, n)) for a in (0.025, 0.975))), axis=-1
            ),
        ],
        "posterior": [lambda a: tf.nn.softmax(a, axis=1), lambda a: ops.softmax(a, axis=-1)],
        "threshold": [
            lambda x: tf.cast(x >= 128, tf.float32),
            lambda x: ops.cast(ops.cast(x, "float32") / 255 >= 0.5, "float32"),
            lambda x: np.where(x > 127, 1.0, 0.0),
        ],
        "crop": [
            lambda a: a[92:176, 83:167],
            lambda a: tf.image.crop_to_bounding_box(a[..., None], 92, 83, 84, 84)[..., 0],
        ],
    }  # fmt: skip
    for name, functions in written.items():
        for function in functions:
            verdict = EXERCISES[name](function)
            assert verdict.passed, f"{inspect.getsource(function)}: {verdict}"


def test_the_librarys_own_functions_pass():
    from vae_lib import evaluation, losses
    from vae_lib.latent import axis_values
    from vae_lib.latent import grid as library_grid

    assert check.kl(losses.gaussian_kl)
    assert check.bernoulli_nll(losses.bernoulli_nll)
    assert check.gaussian_nll(losses.gaussian_nll)
    assert check.axis(axis_values)
    assert check.grid(lambda n: library_grid(axis_values(n)))
    assert check.active_units(lambda m: evaluation.describe_codes(np.asarray(m), np.zeros(m.shape))["active_units"])
    masses = check.logistic_mass(
        lambda k, m, s: tf.exp(
            -losses.discretized_logistic_nll(
                *(tf.reshape(tf.cast(a, tf.float32), [-1, 1, 1, 1]) for a in ((k + 0.5) / 256, m, tf.math.log(s)))
            )
        )
    )
    assert masses, masses


# ---- Networks, steps and pipelines -------------------------------------------------------------------------

layers = keras.layers


def net(*stack, shape=(28, 28, 1)):
    return keras.Sequential([keras.Input(shape), *stack])


def coder(*last):
    return net(layers.Flatten(), layers.Dense(16, activation="relu"), *last)


def painter(*last, units=784):
    return net(layers.Dense(16, activation="relu"), layers.Dense(units), *last, shape=(2,))


IMAGE = layers.Reshape((28, 28, 1))


def test_right_encoders_and_decoders_pass():
    from vae_lib import VAE

    vae = VAE(2, num_filters=4, hidden_units=16)
    conv = net(layers.Conv2D(4, 3, 2, activation="gelu"), layers.Flatten(), layers.Dense(4))
    for network in (vae.encoder, coder(layers.Dense(4)), conv, lambda x: coder(layers.Dense(4))(x)):
        assert check.encoder(network), check.encoder(network)
    transposed = net(
        layers.Dense(49 * 4, activation="relu"), layers.Reshape((7, 7, 4)),
        layers.Conv2DTranspose(4, 3, 2, "same", activation="relu"), layers.Conv2DTranspose(1, 3, 2, "same"), shape=(2,),
    )  # fmt: skip
    for network in (vae.decoder, painter(IMAGE), transposed):
        assert check.decoder(network), check.decoder(network)
    assert check.encoder(VAE(5, image_shape=(16, 16, 3), num_filters=2).encoder, 5, (16, 16, 3))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda: coder(layers.Dense(2)), "twice as many"),
        (lambda: coder(layers.Dense(4, activation="sigmoid")), "no sigmoid or softmax"),
        (lambda: coder(layers.Dense(4, activation="softmax")), "no sigmoid or softmax"),
        (lambda: coder(layers.Dense(4, activation="softplus"), layers.Rescaling(9)), "no relu or softplus"),
        (lambda: coder(layers.Dense(4, activation="tanh")), "no tanh"),
        (lambda: net(layers.Flatten(), layers.Dense(16), layers.Dense(4)), "linear map"),
        (lambda: net(layers.Flatten(), layers.Rescaling(0.0, 0.5), layers.Dense(4)), "the same code"),
        (lambda: lambda x: [coder(layers.Dense(2))(x)] * 2, "2 tensors: join them"),
        (lambda: net(layers.Conv2D(4, 3)), "shape (40, 26, 26, 4)"),
        (lambda: "encoder", "give the network itself"),
    ],
)
def test_a_wrong_encoder_is_named(network, words):
    verdict = check.encoder(network())
    assert not verdict.passed
    assert words in verdict.message


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda: painter(), "one long row"),
        (lambda: painter(layers.Reshape((28, 28))), "axis of the channel"),
        (lambda: painter(layers.Activation("sigmoid"), IMAGE), "probabilities; give logits"),
        (lambda: painter(layers.Activation("relu"), IMAGE), "no relu"),
        (lambda: painter(layers.Activation("tanh"), IMAGE), "no tanh"),
        (lambda: net(layers.Dense(784), IMAGE, shape=(2,)), "linear map"),
        (lambda: painter(layers.Rescaling(0.0, 0.3), IMAGE), "the same image"),
        (lambda: painter(layers.Reshape((7, 7, 1)), units=49), "shape (40, 7, 7, 1)"),
        (lambda: lambda z: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_wrong_decoder_is_named(network, words):
    verdict = check.decoder(network())
    assert not verdict.passed
    assert words in verdict.message


X = (np.random.default_rng(0).random((32, 28, 28, 1)) < 0.2).astype(np.float32)
EPSILON = np.random.default_rng(1).standard_normal((32, 2)).astype(np.float32)


def step_with(mistake="", graph=False, rate=1e-3):
    encoder, decoder = coder(layers.Dense(4)), painter(IMAGE)
    optimizer = keras.optimizers.Adam(rate)
    variables = encoder.trainable_variables + decoder.trainable_variables
    if mistake == "decoder forgotten":
        variables = encoder.trainable_variables
    optimizer.build(variables)

    def step(x, epsilon, beta=1.0):
        with tf.GradientTape() as tape:
            z_mean, z_log_var = tf.split(encoder(x), 2, axis=1)
            z = z_mean + tf.exp(0.5 * z_log_var) * epsilon
            if mistake == "no reparameterization":
                z = tf.stop_gradient(z)
            nll = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=decoder(z)), [1, 2, 3])
            kl = 0.5 * tf.reduce_sum(z_mean**2 + tf.exp(z_log_var) - 1 - z_log_var, axis=1)
            kl = 0.0 * tf.stop_gradient(kl) if mistake == "no reparameterization" else kl
            beta = {"no KL": 0.0, "no beta": 1.0}.get(mistake, beta)
            loss = tf.reduce_mean(nll + beta * kl) / {"mean over pixels": 784, "another": 2}.get(mistake, 1)
            goal = -loss if mistake == "climbs" else loss
        gradients = tape.gradient(goal, variables)
        if mistake != "not applied":
            optimizer.apply_gradients([(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None])
        return {"no return": None, "no mean": nll + kl, "nan": loss * np.nan}.get(mistake, loss)

    return (tf.function(step) if graph else step), encoder, decoder


@pytest.mark.parametrize("graph", [False, True])
def test_a_right_step_passes(graph):
    verdict = check.train_step(*step_with(graph=graph), X, EPSILON)
    assert verdict.passed, verdict


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("not applied", "no weight has moved"),
        ("no reparameterization", "only the decoder learns"),
        ("decoder forgotten", "only the encoder learns"),
        ("climbs", "the loss grows"),
        ("no return", "returns nothing"),
        ("no mean", "the mean over the batch"),
        ("nan", "not finite"),
        ("no KL", "leaves the KL out"),
        ("mean over pixels", "a mean over the pixels"),
        ("another", "and nll + beta KL is"),
    ],
)
def test_a_wrong_step_is_named(mistake, words):
    verdict = check.train_step(*step_with(mistake), X, EPSILON)
    assert not verdict.passed
    assert words in verdict.message, verdict


@pytest.mark.parametrize("graph", [False, True])
def test_a_weight_of_the_kl_must_count(graph):
    beta = tf.constant(1.0)
    assert check.train_step(*step_with(graph=graph), X, EPSILON, beta)
    assert "beta is not in the loss" in check.train_step(*step_with("no beta", graph=graph), X, EPSILON, beta).message


def test_a_step_that_is_traced_again_and_again_or_hardly_learns_is_named():
    step, encoder, decoder = step_with(graph=False)
    count = iter(range(1000))
    graph = tf.function(lambda x, epsilon, number: step(x, epsilon))

    def traced(x, epsilon):
        return graph(x, epsilon, next(count))

    traced.experimental_get_tracing_count = graph.experimental_get_tracing_count
    assert "was traced 20 times" in check.train_step(traced, encoder, decoder, X, EPSILON).message
    assert "does not fall" in check.train_step(*step_with(rate=1e-7), X, EPSILON).message


IMAGES = np.random.default_rng(3).integers(0, 256, (107, 8, 8, 1)).astype(np.uint8)


def bits(image):
    return tf.cast(image >= 128, tf.float32)


def dataset():
    return tf.data.Dataset.from_tensor_slices(IMAGES)


def test_right_pipelines_pass():
    for made in (
        dataset().map(bits).cache().shuffle(200).batch(25).prefetch(2),
        dataset().shuffle(107, seed=1).map(bits).batch(25),
        dataset().shuffle(50).batch(25).map(lambda x: tf.where(tf.cast(x, tf.float32) > 127.5, 1.0, 0.0)),
    ):
        assert check.pipeline(made, IMAGES, 25), check.pipeline(made, IMAGES, 25)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: dataset().map(bits).batch(25), "shuffle them"),
        (lambda: dataset().map(bits).shuffle(107).cache().batch(25), "shuffle after cache"),
        (lambda: dataset().map(bits).shuffle(107, reshuffle_each_iteration=False).batch(25), "anew each epoch"),
        (lambda: dataset().map(bits).batch(25).shuffle(9), "shuffle before batch"),
        (lambda: dataset().map(bits).shuffle(107), "batch them"),
        (lambda: dataset().map(bits).shuffle(107).batch(25, drop_remainder=True), "7 images are lost"),
        (lambda: dataset().map(bits).shuffle(107).repeat().batch(25), "no repeat"),
        (lambda: dataset().map(bits).shuffle(107).batch(10), "have 10 images"),
        (lambda: dataset().shuffle(107).batch(25), "uint8: cast"),
        (lambda: dataset().map(lambda x: tf.cast(x, tf.float32)).shuffle(107).batch(25), "up to 255"),
        (lambda: dataset().map(lambda x: tf.cast(x, tf.float32) / 255).shuffle(107).batch(25), "still grey"),
        (lambda: dataset().map(lambda x: tf.cast(x > 0, tf.float32)).shuffle(107).batch(25), "threshold at 128"),
        (lambda: dataset().map(lambda x: (bits(x), 0)).shuffle(107).batch(25), "labels came along"),
        (lambda: dataset().map(lambda x: {"image": bits(x)}).shuffle(107).batch(25), "dictionaries"),
        (lambda: dataset().map(lambda x: bits(255 - x)).shuffle(107).batch(25), "these are not the images"),
        (lambda: dataset().map(bits).map(lambda x: tf.reshape(x, [64])).shuffle(107).batch(25), "shape (25, 64)"),
        (lambda: IMAGES, "tf.data.Dataset itself"),
    ],
)
def test_a_wrong_pipeline_is_named(made, words):
    verdict = check.pipeline(made(), IMAGES, 25)
    assert not verdict.passed
    assert words in verdict.message, verdict


def through_a_method(slider, show):
    class Follower:
        def moved(self, change):
            show(change.new)

    slider.observe(Follower().moved, names=["value"])


def test_a_slider_that_is_followed_passes():
    def shown_at_once(slider, show):
        show(slider.value)
        slider.observe(lambda _: show(np.float64(slider.value)), names="value")

    for connect in (lambda s, show: s.observe(lambda c: show(c["new"]), "value"), through_a_method, shown_at_once):
        assert check.follow(connect), check.follow(connect)


@pytest.mark.parametrize(
    ("connect", "words"),
    [
        (lambda s, show: show(s.value), "nothing happens"),
        (lambda s, show: s.observe(show(s.value), "value"), "do not call it"),
        (lambda s, show: s.observe(show, "value"), "whole message"),
        (lambda s, show: s.observe(lambda c: show(c["old"]), "value"), "from before the move"),
        (lambda s, show: s.observe(lambda c: show(c["new"])), "when something else changes"),
        (lambda s, show: s.observe(lambda c: show(c["owner"]), "value"), "slider itself"),
        (lambda s, show: s.observe(lambda c: show("z", c["new"]), "value"), "not 2 arguments"),
        (lambda s, show: s.observe(lambda c: show(str(c["new"])), "value"), "show gets str"),
        (lambda s, show: s.observe(lambda c: show(c["new"] / 2), "value"), "is at 1.25"),
        (lambda s, show: [s.observe(lambda c: show(c["new"]), "value") for _ in "ab"], "more than once"),
        (lambda s, show: show(0.0), "0.5, not with (0.0,)"),
        (lambda s, show: s.observe(lambda c: show(c.value), "value"), "AttributeError"),
        (3, "the function itself"),
    ],
)
def test_a_slider_that_is_not_followed_is_named(connect, words):
    verdict = check.follow(connect)
    assert not verdict.passed
    assert words in verdict.message, verdict


def test_a_right_answer_without_gradients_passes_and_is_told_so():
    with_gradients = check.kl(lambda m, lv: 0.5 * tf.reduce_sum(m**2 + tf.exp(lv) - 1 - lv, axis=1))
    assert with_gradients.message == "Equal to the reference on every case."
    stopped = check.sample(lambda m, lv, e: m + tf.stop_gradient(tf.exp(lv / 2)) * e)
    for verdict in (check.kl(check.kl.reference), stopped):
        assert verdict.passed
        assert "no gradient passes" in verdict.message
    assert check.threshold(check.threshold.reference).message == "Equal to the reference on every case."


def test_an_error_of_the_learner_while_the_slider_moves_is_passed_on():
    verdict = check.follow(lambda s, show: s.observe(lambda c: c["new"](), "value"))
    assert not verdict.passed
    assert "'float' object is not callable" in verdict.message


def test_an_answer_that_draws_its_own_noise_is_named():
    verdict = check.sample(lambda m, lv, e: m + tf.exp(lv / 2) * tf.random.normal(tf.shape(m)))
    assert "another answer each time" in verdict.message


def test_what_a_learners_code_raises_is_shown_in_plain_words():
    verdict = check.elbo(lambda *case: -None)
    assert "does a function that it calls return nothing?" in verdict.message
    verdict = check.bernoulli_nll(lambda x, y: tf.reshape(x, [-1, 100]))
    assert "{{" not in verdict.message
    assert "\x1b" not in check.decoder(painter(IMAGE), latent_dim=4).message


@pytest.mark.parametrize(
    "network",
    [
        lambda: net(layers.Dense(8, activation="relu"), layers.Flatten(), layers.Dense(4)),
        lambda: net(layers.GlobalAveragePooling2D(), layers.Dense(64, activation="relu"), layers.Dense(4)),
    ],
)
def test_an_encoder_that_is_linear_only_for_images_is_no_linear_map(network):
    assert check.encoder(network()), check.encoder(network())


def test_a_step_whose_loss_is_negative_is_named():
    step, encoder, decoder = step_with()
    verdict = check.train_step(lambda x, e: -step(x, e), encoder, decoder, X, EPSILON)
    assert "a sign is wrong" in verdict.message


def test_a_numpy_answer_gets_its_own_error_and_not_that_of_the_tensors():
    def kl(m, lv):
        return 0.5 * (m**2 + np.exp(lv) - 1 - lv).sum(axis=2)

    assert "axis 2 is out of bounds" in check.kl(kl).message

    def forgets(m, lv):
        (m**2 + np.exp(lv) - 1 - lv).sum(axis=1)

    assert "returns nothing" in check.kl(forgets).message


def test_answers_that_end_the_program_or_fail_the_second_time_are_answers(monkeypatch):
    calls = []

    def fails_later(m, lv):
        calls.append(1)
        if len(calls) > 4:
            raise RuntimeError("once more")
        return m[:, 0]

    assert not check.kl(fails_later)
    assert "SystemExit" in check.kl(lambda m, lv: exit()).message


def test_checks_work_under_strict_floating_point_errors_and_take_half_precision():
    with np.errstate(all="raise"):
        assert not check.bernoulli_nll(lambda x, y: tf.zeros(len(x)))
        assert check.logistic_mass(check.logistic_mass.reference)
    half = check.scale(lambda x: tf.cast(tf.cast(x, tf.float32) / 255, tf.bfloat16))
    assert "is right" in half.message  # numbers, though not exact ones


def test_networks_that_the_step_itself_builds_are_no_mistake():
    encoder = keras.Sequential([layers.Flatten(), layers.Dense(16, "relu"), layers.Dense(4)])
    decoder = keras.Sequential([layers.Dense(16, "relu"), layers.Dense(784), layers.Reshape((28, 28, 1))])
    optimizer = keras.optimizers.Adam(1e-3)

    def step(x, epsilon):
        with tf.GradientTape() as tape:
            z_mean, z_log_var = tf.split(encoder(x), 2, axis=1)
            logits = decoder(z_mean + tf.exp(z_log_var / 2) * epsilon)
            nll = tf.reduce_sum(tf.nn.softplus(logits) - x * logits, [1, 2, 3])
            kl = 0.5 * tf.reduce_sum(z_mean**2 + tf.exp(z_log_var) - 1 - z_log_var, 1)
            loss = tf.reduce_mean(nll + kl)
        weights = encoder.trainable_variables + decoder.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)
        return loss

    verdict = check.train_step(step, encoder, decoder, X, EPSILON)
    assert verdict, verdict


def test_traces_of_earlier_calls_do_not_count():
    step, encoder, decoder = step_with(graph=True)
    for size in (3, 5, 7, 9):
        step(X[:size], EPSILON[:size])
    assert check.train_step(step, encoder, decoder, X, EPSILON)


def test_a_hidden_tanh_is_no_tanh_at_the_end():
    for hidden in ("tanh", "sigmoid"):
        network = net(layers.Dense(16, hidden), layers.Dense(784), layers.Reshape((28, 28, 1)), shape=(2,))
        assert check.decoder(network), check.decoder(network)


def test_pipelines_of_one_batch_of_single_images_and_of_a_small_buffer():
    shuffled = dataset().map(bits).shuffle(200)
    for size in (107, 300, 1):
        assert check.pipeline(shuffled.batch(size), IMAGES, size), size
    assert check.pipeline(shuffled.batch(25), list(IMAGES), 25)
    mixed = np.random.default_rng(1).permutation(IMAGES)  # as on disk, and not as in the array
    for data in (IMAGES, mixed):
        lazy = tf.data.Dataset.from_tensor_slices(data).map(bits).shuffle(2).batch(25)
        assert "as large as the data" in check.pipeline(lazy, IMAGES, 25).message


def test_a_coder_that_is_right_for_small_numbers_only():
    def push(state, start, frequency, precision):
        return (int(state / frequency) << precision) + start + state % frequency

    assert "right for small numbers only" in check.push(push).message
    assert "right for small numbers only" in check.pop(lambda s, *rest: float(check.pop.reference(s, *rest))).message


def test_a_sweep_from_a_code_of_whole_numbers():
    def sweep(z, dimension, values):
        codes = np.repeat(np.asarray(z)[None], len(values), axis=0)
        codes[:, dimension] = values
        return codes

    assert "make it floats first" in check.sweep(sweep).message
