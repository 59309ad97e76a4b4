"""The public API, line by line: run from a checkout, in a notebook and from an installed wheel, in an empty folder."""

import keras

from vae_lib import VAE, check, evaluate, explore, load_data, load_run, manifold, refine, save_run, train, watch

data = load_data("mnist", source="sample")
vae = VAE(latent_dim=2)
history = train(vae, data, epochs=1, callbacks=[keras.callbacks.CSVLogger("log.csv")])
history += train(vae, data.train_images[:500], epochs=1)
picture = manifold(vae)
sliders = explore(vae, data)
numbers = evaluate(vae, data.test_images[:5], exact=True)
live = watch(VAE(latent_dim=2, num_filters=4), data, epochs=1)
live.wait()
better = refine(vae, data.test_images[:20], steps=5)
verdict = check.kl(lambda z_mean, z_log_var: z_mean)

my_encoder = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
my_decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(784), keras.layers.Reshape((28, 28, 1))])
own = VAE(latent_dim=2, encoder=my_encoder, decoder=my_decoder)
train(own, data.train_images[:500], epochs=1)

own.save("mine.keras")
again = keras.saving.load_model("mine.keras")
vae.compile("adam")
vae.fit(data.train_images[:500], epochs=2, verbose=0)
save_run("mine", vae, data)
run = load_run("mine")

assert picture.shape == (1120, 1120, 1)
assert better.z_mean.shape == (20, 2)
assert not verdict.passed
assert live.session.images == 4000
assert numbers["log_px"] >= numbers["elbo"]
assert all((a == b).all() for a, b in zip(own.get_weights(), again.get_weights(), strict=True))
assert all((a == b).all() for a, b in zip(vae.get_weights(), run.model.get_weights(), strict=True))
print(run, sliders)
