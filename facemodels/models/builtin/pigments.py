"""Colors of skin and hair from their pigments.

Skin is two layers: melanin in the epidermis filters light on its way in and out; blood in a scattering dermis beneath
absorbs part of what comes back (Anderson and Parrish 1981, The optics of human skin). Everything is computed in three
bands, the means over 590-640, 520-570 and 450-490 nm, which stand for the primaries of sRGB.
"""

import numpy as np
from numpy.typing import ArrayLike

# Absorption and scattering in 1/cm.
# Whole blood, 150 g/l of hemoglobin, with and without oxygen: Prahl (1998), tabulated molar extinction of hemoglobin in
# water.
OXYGENATED = np.array([18.8, 212.0, 204.4], np.float32)
DEOXYGENATED = np.array([61.1, 240.6, 186.5], np.float32)
# Inside a melanosome, 6.6e11 nm^-3.33; skin without pigments, 0.244 + 85.3 exp(-(nm - 154) / 66.2): Jacques (1998),
# Skin optics.
MELANOSOME = np.array([342.8, 513.4, 840.0], np.float32)
BARE = np.array([0.33, 0.48, 0.98], np.float32)
# Reduced scattering of skin, 46 (nm / 500)^-1.421: Jacques (2013), Optical properties of biological tissues: a review.
SCATTERING = np.array([34.3, 40.8, 50.3], np.float32)
# Bilirubin and carotene absorb blue light, and the blue edge of green (Jacques 2013).
YELLOW = np.array([0.0, 0.12, 1.0], np.float32)

# cm, the way through the epidermis and back: 60 um thick (Jacques 1998), passed twice, mostly at an angle.
EPIDERMIS = 0.015
# A half space reflects exp(-A / sqrt(3 (1 + scattering / absorption))) of the light, A = 7 to 8 for tissue (Jacques
# 1999).
ESCAPE = 7.0
# Scattered at the surface, white: n = 1.55 of the horny layer reflects 4.6 %, the rough part of it diffusely.
SURFACE = 0.025

# Eumelanin and pheomelanin in hair, per unit of concentration, red, green, blue: d'Eon et al. (2011), An
# energy-conserving hair reflectance model.
EUMELANIN = np.array([0.419, 0.697, 1.37], np.float32)
PHEOMELANIN = np.array([0.187, 0.4, 1.05], np.float32)
# Color of a mass of hair: exp(-5.9 sqrt(absorption)), Chiang et al. (2016) at an azimuthal roughness of 0.3.
HAIR_DEPTH = 5.9
HAIR_SHEEN = 0.012  # reflected by the hair's surface

BLOOD = 0.006  # share of the dermis that is blood, in the face; 0.002 on average over the body (Jacques 1998)
OXYGEN = 0.7  # saturation: between arterioles and venules


def skin_reflectance(
    melanin: ArrayLike, blood: ArrayLike, oxygen: ArrayLike = OXYGEN, yellow: ArrayLike = 0.0
) -> np.ndarray:
    """Compute the diffuse reflectance of skin.

    Args:
        melanin: [...], share of the epidermis that is melanosomes, 0.01 (very light) to 0.4 (very dark).
        blood: [...], share of the dermis that is blood.
        oxygen: [...], saturation of that blood, 0..1.
        yellow: [...], absorption by bilirubin and carotene in the blue band, 1/cm.

    Returns:
        [...,3], linear sRGB.
    """
    melanin, blood, oxygen, yellow = (np.asarray(v)[..., None] for v in (melanin, blood, oxygen, yellow))
    absorption = BARE + blood * (DEOXYGENATED + oxygen * (OXYGENATED - DEOXYGENATED)) + yellow * YELLOW
    dermis = ESCAPE / np.sqrt(3 * (1 + SCATTERING / absorption))
    return SURFACE + (1 - SURFACE) * np.exp(-dermis - EPIDERMIS * melanin * MELANOSOME)


def hair_reflectance(eumelanin: ArrayLike, pheomelanin: ArrayLike) -> np.ndarray:
    """Compute the color of a mass of hair.

    Args:
        eumelanin: [...], 0.1 (blond), 0.7 (brown), 3 (black).
        pheomelanin: [...], 0 to 1 (red).

    Returns:
        [...,3], linear sRGB.
    """
    absorption = np.asarray(eumelanin)[..., None] * EUMELANIN + np.asarray(pheomelanin)[..., None] * PHEOMELANIN
    return HAIR_SHEEN + (1 - HAIR_SHEEN) * np.exp(-HAIR_DEPTH * np.sqrt(absorption))
