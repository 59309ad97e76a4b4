"""Images: `load_data` and where they come from."""

from vae_lib.data.loading import ImageData as ImageData
from vae_lib.data.loading import load_data as load_data
