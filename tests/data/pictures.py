"""Pictures for tests of the data sources: soft dots whose places are known, and folders of frames."""

import io

import numpy as np
from PIL import Image


def spots(points, height=100, width=100, radius=2.5):
    """Draw a soft white dot at each of the points, in pixels, on black: uint8 [height,width,3]."""
    ys, xs = np.mgrid[:height, :width] + 0.5
    image = sum(np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / radius**2) for x, y in points)
    return np.repeat((255 * np.clip(image, 0, 1)).round().astype(np.uint8)[..., None], 3, -1)


def light_center(image, near, reach=6):
    """Where the light around a point (x, y) of a picture [h,w] or [h,w,3] is."""
    image = np.asarray(image, np.float64).reshape(*image.shape[:2], -1).mean(-1)
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    weight = image * (np.hypot(xs - near[0], ys - near[1]) < reach)
    return np.array([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum()


def jpg(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    return file.getvalue()


def five(x, y, size):
    """Five points of a face at (x, y)."""
    return np.array(
        [[x - size, y - size], [x + size, y - size], [x, y], [x - 0.7 * size, y + size], [x + 0.7 * size, y + size]]
    )


def write_frames(path, count, first=0, height=60, width=80, marks=False):
    """Write a folder of frames.

    They are black but for their middle square, which is 40 + 10 times their number and white at its sides. With marks,
    each frame has landmarks at a place of its own.
    """
    path.mkdir(parents=True)
    for k in range(count):
        frame = np.zeros((height, width, 3), np.uint8)
        middle = frame[:, (width - height) // 2 : (width + height) // 2]
        middle[:], middle[:, :8], middle[:, -8:] = 40 + 10 * (first + k), 250, 250
        Image.fromarray(frame).save(path / f"{k:04d}.png")
        if marks:
            np.save(path / f"{k:04d}.npy", five(30 + k, 30, 12))
