"""Regularizers of light, albedo and coefficients."""

from torch import Tensor

from facemodels.losses.common import add_up, in_float32, safe_mean


@in_float32
def gamma_loss(coefficients: Tensor) -> Tensor:
    """Mean squared difference of light coefficients to their mean over the three colors: light should be nearly white.

    Deng et al. 2019, released code; weight 10.

    Args:
        coefficients: [N,9,3], spherical harmonics of the preset "deep3d". Offsets common to all colors cancel,
            the 0.8 among them that `facerender.lighting.deep3d_coefficients` adds.
    """
    return safe_mean((coefficients - coefficients.mean(-1, keepdim=True)).square())


@in_float32
def reflectance_loss(albedo: Tensor, skin: Tensor) -> Tensor:
    """Variance of the albedo over the skin: sum |(T - mean T) m|^2 / (N sum m), the mean being over m too.

    L_tex of Deng et al. 2019, released code; weight 5.

    Args:
        albedo: T, [N,V,3], 0..1.
        skin: m, [V], bool or 0..1.

    Raises:
        ValueError: skin is not [V].
    """
    if skin.shape != albedo.shape[1:2]:
        raise ValueError(f"skin must be [{albedo.shape[1]}] for albedo {list(albedo.shape)}, got {list(skin.shape)}")
    skin = skin.to(albedo.dtype)[:, None]
    total = skin.sum().clamp(min=1e-6)
    mean = (albedo * skin).sum(1, keepdim=True) / total
    return ((albedo - mean) * skin).square().sum() / (max(len(albedo), 1) * total)


@in_float32
def coefficient_loss(
    identity: Tensor,
    expression: Tensor | None = None,
    albedo: Tensor | None = None,
    weights: tuple[float, float, float] = (1.0, 0.8, 1.7e-2),
) -> Tensor:
    """Coefficient regularizer: the weighted squared length of the coefficients, mean over the batch.

    L_coef of Deng et al. 2019; weight 3e-4.

    Args:
        identity: [N,I], standard deviations.
        expression: [N,E], likewise; None to leave it out.
        albedo: [N,A], likewise.
        weights: of identity, expression and albedo.
    """
    given = [(w, c) for w, c in zip(weights, (identity, expression, albedo)) if c is not None]
    return add_up(w * c.square().sum() for w, c in given) / max(len(identity), 1)
