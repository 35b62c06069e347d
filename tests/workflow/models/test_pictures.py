"""Pictures as callers send them; each function runs where TensorFlow is."""

import struct

import numpy as np
import pytest

from slipway import png


def bmp(pixels):
    """24 bits a pixel, lines from the bottom up, each filled to four bytes."""
    height, width, _ = pixels.shape
    lines = b"".join(line.tobytes() + b"\0" * (-3 * width % 4) for line in pixels[::-1, :, ::-1])
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(lines), 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 54 + len(lines), 0, 0, 54) + header + lines


def gif(*frames):
    """One pixel a frame: 0 is red, 1 is blue."""
    head = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes([255, 0, 0, 0, 0, 255])
    # LZW of one pixel at two bits a code: clear (4), colour, end (5), three bits each.
    codes = [4 | colour << 3 | 5 << 6 for colour in frames]
    images = b"".join(
        b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02" + struct.pack("<H", code) + b"\0" for code in codes
    )
    return head + images + b";"


COLOURS = np.arange(4 * 6 * 3).reshape(4, 6, 3).astype(np.uint8) * 3
GREY = COLOURS[..., :1]
CLEAR = np.concatenate([COLOURS, COLOURS[..., :1]], axis=-1)


def decode(shape, image, pictures, dtype="float32"):
    """Give what each picture becomes, or the first line of why it does not."""
    import tensorflow as tf

    from slipway.contract import ImageForm, TensorContract
    from slipway.models.pictures import decode

    own = TensorContract(dtype=dtype, shape=("N", *shape))
    form = ImageForm(**{"range": (0, 255)} | image)
    function = tf.function(
        lambda encoded: decode(encoded, form, own), input_signature=[tf.TensorSpec([None], tf.string)]
    )
    found = []
    for picture in pictures:
        encoded = tf.io.encode_jpeg(picture, quality=100).numpy() if isinstance(picture, np.ndarray) else picture
        try:
            found.append(function(tf.constant([encoded])).numpy()[0])
        except tf.errors.InvalidArgumentError as error:
            found.append(str(error))
    return found


def luminance(pixels):
    return pixels.astype(float) @ [[0.299], [0.587], [0.114]]


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_every_format_is_read_in_colour(fresh, dtype):
    sent = [png.encode(COLOURS), bmp(COLOURS), png.encode(CLEAR), png.encode(GREY), COLOURS]

    exact, of_bmp, without_alpha, grey, jpeg = fresh.test_function(decode, (4, 6, 3), {}, sent, dtype)

    for found in (exact, of_bmp, without_alpha):
        np.testing.assert_array_equal(found, COLOURS)
        assert found.dtype == dtype
    np.testing.assert_array_equal(grey, np.tile(GREY, (1, 1, 3)))
    assert np.abs(jpeg.astype(float) - COLOURS).mean() < 6


def test_every_format_is_read_in_grey(fresh):
    sent = [png.encode(GREY), png.encode(COLOURS), bmp(COLOURS), COLOURS, gif(0)]

    exact, of_png, of_bmp, of_jpeg, of_gif = fresh.test_function(decode, (4, 6, 1), {}, sent)

    np.testing.assert_array_equal(exact, GREY)
    np.testing.assert_allclose(of_bmp, luminance(COLOURS), atol=1)
    # JPEG loses something, and libpng weighs colours in its own way, at which TensorFlow leaves it.
    np.testing.assert_allclose(of_jpeg, luminance(COLOURS), atol=9)
    np.testing.assert_allclose(of_png, luminance(COLOURS), atol=9)
    np.testing.assert_allclose(of_gif, 76, atol=1)


def test_what_has_no_alpha_is_opaque(fresh):
    sent = [png.encode(CLEAR), bmp(COLOURS), COLOURS]

    clear, *opaque = fresh.test_function(decode, (4, 6, 4), {}, sent)

    np.testing.assert_array_equal(clear, CLEAR)
    assert all((found[..., 3] == 255).all() for found in opaque)


def test_of_a_film_the_first_frame_counts(fresh):
    (found,) = fresh.test_function(decode, (2, 2, 3), {}, [gif(1, 0)])

    np.testing.assert_array_equal(found, np.tile([0, 0, 255], (2, 2, 1)))


def test_scale_order_and_another_aspect(fresh):
    halves = np.zeros((4, 8, 3), np.uint8)
    halves[:, 2:6] = [0, 102, 255]
    sent = [png.encode(halves)]

    (cut,) = fresh.test_function(decode, (2, 2, 3), {"fit": "crop", "range": (-1, 1), "order": "bgr"}, sent)
    (bordered,) = fresh.test_function(decode, (8, 8, 3), {"fit": "pad"}, sent)
    (shifted,) = fresh.test_function(decode, (4, 8, 3), {"range": None, "scale": (1, 2, 3), "offset": -5}, sent)

    np.testing.assert_allclose(cut, np.tile([1, -0.2, -1], (2, 2, 1)), atol=1e-6)
    np.testing.assert_array_equal(bordered[2:6], halves)
    assert not bordered[[0, 1, 6, 7]].any()
    np.testing.assert_allclose(shifted[0, 3], [-5, 199, 760])


def test_what_is_no_picture_is_refused(fresh):
    whole = png.encode(COLOURS)
    sent = [b"", b"GIF8", b"no picture", whole[:60], whole.replace(b"IDAT", b"JDAT"), b"BM" + b"\xff" * 60]

    found = fresh.test_function(decode, (4, 6, 3), {}, sent)

    assert all(isinstance(one, str) for one in found)


def test_a_bomb_is_refused_before_it_is_decoded(fresh):
    """Headers that claim more than there may be; nothing behind them is needed to say no."""
    wide = np.zeros((1, 65, 3), np.uint8)
    claim = struct.pack(">II", 60_000, 60_000)
    bomb = png.encode(wide).replace(struct.pack(">II", 65, 1), claim)
    screen = b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + gif(0)[10:]
    sent = [png.encode(wide), bmp(wide), wide, bomb, screen, png.encode(wide[:, 1:])]

    *refused, taken = fresh.test_function(decode, (1, 64, 3), {"max_pixels": 64}, sent)

    assert all("a picture claims more than 64 pixels" in one for one in refused)
    assert taken.shape == (1, 64, 3)
