"""The settings of Keras that the zoo needs. `import zoo` checks them before any other module."""

import os


class SettingError(ImportError, ValueError):
    """A setting of Keras that the zoo does not support."""


def check() -> None:
    """Checks Keras's backend, its data format of images and its type of floats.

    `import zoo` calls this function. Networks and models call it again when they are built, because
    `keras.config` can change two of the settings later.

    Raises:
        SettingError: If a setting is not the one that the zoo needs.
        ImportError: If Keras is not installed.
    """
    _check_backend()
    import keras  # Only here: with another backend, the import may already fail.

    if (layout := keras.config.image_data_format()) != "channels_last":
        raise SettingError(
            "The zoo needs images with the channels last, [B, H, W, C]. Received: Keras's image data "
            f"format '{layout}'. Call keras.config.set_image_data_format('channels_last'), or set "
            '"image_data_format" to "channels_last" in ~/.keras/keras.json.'
        )
    if (floatx := keras.config.floatx()) != "float32":
        raise SettingError(
            "The zoo needs float32 as the default type of floats, because densities and batch "
            f"statistics are float32. Received: Keras's floatx '{floatx}'. Call "
            'keras.config.set_floatx("float32"), or set "floatx" to "float32" in '
            "~/.keras/keras.json. For networks in half precision, call "
            'keras.config.set_dtype_policy("mixed_bfloat16").'
        )


def _check_backend():
    try:
        import keras

        backend = keras.config.backend()
    except ImportError as error:
        # Keras imports its backend, which may not be installed.
        backend, cause = os.environ.get("KERAS_BACKEND") or error.name, error
        if error.name == "keras":
            raise
    except (ValueError, AssertionError) as error:  # A value that Keras does not know.
        raise SettingError(
            "The zoo needs valid settings of Keras. Received: settings in ~/.keras/keras.json, or in "
            "the environment variables KERAS_HOME, KERAS_BACKEND and KERAS_FLOATX, with which Keras "
            f"cannot be imported. {error}".rstrip()
        ) from error
    else:
        cause = None
    if backend != "tensorflow":
        raise SettingError(
            f"The zoo needs Keras's backend 'tensorflow'. Received: the backend '{backend}'. Set the "
            'environment variable KERAS_BACKEND=tensorflow, or "backend" to "tensorflow" in '
            "~/.keras/keras.json, before Keras is imported."
        ) from cause


check()
