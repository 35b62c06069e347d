"""Encoded pictures -> tensors, in the graph: decode, resize, scale, each picture by itself."""

import tensorflow as tf

from slipway.contract import ImageForm, TensorContract
from slipway.forms import levels

# What a decoder looks at to know the format, and where the size stands.
_HEADER_BYTES = 26
_PNG, _GIF, _BMP, _JPEG = b"\x89PNG", b"GIF8", b"BM", b"\xff\xd8\xff"


def decode(encoded: tf.Tensor, image: ImageForm, own: TensorContract) -> tf.Tensor:
    """
    Decode pictures.

    Args:
        encoded: JPEG, PNG, GIF (first frame) or BMP, strings [rows].
        image: How they become tensors.
        own: The input of the model that they become: [N, height, width, channels].

    Returns:
        Tensor of *own*'s dtype, [rows, height, width, channels]. In the graph, a picture that cannot be decoded or
        claims too many pixels is INVALID_ARGUMENT for the whole batch.
    """
    channels = own.shape[3]
    height, width = image.size or own.shape[1:3]
    assert isinstance(channels, int)  # as validated
    assert isinstance(height, int)
    assert isinstance(width, int)

    @tf.autograph.experimental.do_not_convert
    def one(picture: tf.Tensor) -> tf.Tensor:
        pixels = _decode_one(picture, channels, image.max_pixels)
        pixels = _resize(tf.cast(pixels, tf.float32), height, width, image)
        return tf.ensure_shape(pixels, [height, width, channels])

    pixels = tf.map_fn(one, encoded, fn_output_signature=tf.TensorSpec([height, width, channels], tf.float32))
    if image.order == "bgr":
        pixels = tf.concat([pixels[..., 2::-1], pixels[..., 3:]], axis=-1)
    scale, offset = levels(image, own)
    values = pixels * scale + offset
    return tf.cast(values if own.dtype.startswith("float") else tf.round(values), own.dtype)


def _decode_one(picture: tf.Tensor, channels: int, max_pixels: int) -> tf.Tensor:
    """Decode to uint8 [height, width, channels]; not before the claimed size is known to be acceptable."""
    checked = tf.debugging.Assert(
        _claimed_pixels(picture) <= max_pixels, [f"a picture claims more than {max_pixels} pixels"]
    )
    with tf.control_dependencies([checked]):
        picture = tf.identity(picture)
    # The decoders of GIF and BMP do not convert between grey and colour, that of JPEG makes no alpha channel.
    converts = _begins_with(picture, _PNG) | (_begins_with(picture, _JPEG) & (channels != 4))
    return tf.cond(
        converts,
        lambda: tf.io.decode_image(picture, channels=channels, expand_animations=False),
        lambda: _with_channels(tf.io.decode_image(picture, channels=0, expand_animations=False), channels),
    )


def _with_channels(pixels: tf.Tensor, channels: int) -> tf.Tensor:
    pixels = tf.ensure_shape(pixels, [None, None, None])
    is_grey = tf.equal(tf.shape(pixels)[2], 1)
    colour = tf.cond(is_grey, lambda: tf.tile(pixels, [1, 1, 3]), lambda: pixels[..., :3])
    match channels:
        case 1:
            colour = tf.ensure_shape(colour, [None, None, 3])
            return tf.cond(is_grey, lambda: pixels, lambda: tf.image.rgb_to_grayscale(colour))
        case 3:
            return colour
        case _:
            opaque = tf.fill(tf.concat([tf.shape(pixels)[:2], [1]], axis=0), tf.constant(255, tf.uint8))
            return tf.concat([colour, opaque], axis=-1)


def _begins_with(picture: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.equal(tf.strings.substr(picture, 0, len(magic)), magic)


def _claimed_pixels(picture: tf.Tensor) -> tf.Tensor:
    """Read height times width from the picture's header, int64; 0 where it has none."""
    header = tf.io.decode_raw(picture + b"\0" * _HEADER_BYTES, tf.uint8, fixed_length=_HEADER_BYTES)
    at = tf.cast(header, tf.int64)

    def number(*places: int) -> tf.Tensor:
        """Read an unsigned number whose bytes stand at *places*, the highest first."""
        total = at[places[0]]
        for place in places[1:]:
            total = total * 256 + at[place]
        return total

    def signed(*places: int) -> tf.Tensor:
        value = number(*places)
        return tf.abs(tf.where(value < 1 << 31, value, value - (1 << 32)))

    def of_jpeg() -> tf.Tensor:
        shape = tf.cast(tf.io.extract_jpeg_shape(picture), tf.int64)
        return shape[0] * shape[1]

    return tf.case(
        [
            (_begins_with(picture, _JPEG), of_jpeg),
            (_begins_with(picture, _PNG), lambda: number(16, 17, 18, 19) * number(20, 21, 22, 23)),
            (_begins_with(picture, _GIF), lambda: number(7, 6) * number(9, 8)),
            (_begins_with(picture, _BMP), lambda: signed(21, 20, 19, 18) * signed(25, 24, 23, 22)),
        ],
        default=lambda: tf.constant(0, tf.int64),
    )


def _resize(pixels: tf.Tensor, height: int, width: int, image: ImageForm) -> tf.Tensor:
    match image.fit:
        case "pad":
            return tf.image.resize_with_pad(pixels, height, width, method=image.resize)
        case "crop":
            pixels = _cut_to_aspect(pixels, height, width)
    return tf.image.resize(pixels, [height, width], method=image.resize)


def _cut_to_aspect(pixels: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Cut the largest part with the aspect of height to width out of the middle."""
    found = tf.shape(pixels)
    high = tf.minimum(found[0], tf.maximum(found[1] * height // width, 1))
    wide = tf.minimum(found[1], tf.maximum(found[0] * width // height, 1))
    top, left = (found[0] - high) // 2, (found[1] - wide) // 2
    return pixels[top : top + high, left : left + wide]
