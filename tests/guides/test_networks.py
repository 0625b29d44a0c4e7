"""Networks: shapes over leading axes, both image sizes, dtypes, the start, vmap, and what they refuse."""

import pytest
import torch
from torch import nn

from guides.networks import MLP, ConvDecoder, ConvEncoder

LEADS = [(), (5,), (3, 5), (2, 3, 5)]
IMAGES = [8, 28, (3, 12, 10)]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def pixels(image):
    return image * image if isinstance(image, int) else torch.Size(image).numel()


def shape(image):
    return (1, image, image) if isinstance(image, int) else image


@DTYPES
@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("hidden", [(), (7,), (7, 9)])
def test_an_mlp_broadcasts_over_leading_axes(lead, hidden, dtype):
    network = MLP(4, 3, hidden, nn.Tanh).to(dtype)
    x = torch.randn(*lead, 4, dtype=dtype)
    found = network(x)
    assert found.shape == (*lead, 3)
    assert found.dtype == dtype
    assert sum(isinstance(layer, nn.Linear) for layer in network.layers) == len(hidden) + 1
    torch.testing.assert_close(found.reshape(-1, 3), network(x.reshape(-1, 4)))


def test_signals_keep_their_size_through_hidden_layers_and_outputs_begin_around_zero():
    network = MLP(200, 200, (200, 200, 200)).double()
    x = torch.randn(2_000, 200, dtype=torch.float64)
    hidden = network.layers[:-1](x)
    # He's rule keeps the mean square of a ReLU's input at 2 E[relu²]: here within 30 % after three layers of 200
    assert 0.7 < hidden.square().mean() * 2 / (2 * x.square().mean()) < 1.3
    assert all(not layer.bias.any() for layer in network.layers if isinstance(layer, nn.Linear))


@DTYPES
@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("image", IMAGES)
def test_conv_networks_take_flat_images_and_images_over_leading_axes(image, lead, dtype):
    encoder = ConvEncoder(image, 6, channels=(4, 5)).to(dtype)
    decoder = ConvDecoder(6, image, channels=(5, 4)).to(dtype)
    flat = torch.randn(*lead, pixels(image), dtype=dtype)
    codes = encoder(flat)
    assert codes.shape == (*lead, 6)
    torch.testing.assert_close(encoder(flat.reshape(*lead, *shape(image))), codes)
    decoded = decoder(codes)
    assert decoded.shape == flat.shape
    assert decoded.dtype == dtype
    one_by_one = [decoder(code) for code in codes.reshape(-1, 6)]
    torch.testing.assert_close(torch.stack(one_by_one).reshape(decoded.shape), decoded, rtol=1e-4, atol=1e-5)
    decoder.flat = False
    assert decoder(codes).shape == (*lead, *shape(image))


def test_images_of_one_channel_may_lack_their_axis():
    encoder = ConvEncoder(8, 6, channels=(4,))
    images = torch.randn(5, 8, 8)
    torch.testing.assert_close(encoder(images), encoder(images.flatten(1)))


@pytest.mark.parametrize("channels", [(), (4,), (4, 4, 4)])
def test_a_conv_decoder_mirrors_any_number_of_layers(channels):
    assert ConvDecoder(2, 28, channels)(torch.zeros(5, 2)).shape == (5, 784)
    assert ConvEncoder(28, 2, channels)(torch.zeros(5, 784)).shape == (5, 2)


def test_networks_work_under_vmap():
    z, x = torch.randn(4, 5, 3), torch.randn(4, 5, 64)
    decoder, encoder, mlp = ConvDecoder(3, 8, (4,)), ConvEncoder(8, 3, (4,)), MLP(3, 2)
    for network, batch in ((decoder, z), (encoder, x), (mlp, z)):
        torch.testing.assert_close(torch.func.vmap(network)(batch), network(batch), rtol=1e-4, atol=1e-5)


def test_images_of_another_size_are_refused_with_what_would_do():
    with pytest.raises(ValueError, match=r"found shape \(5, 63\), wanted \(\.\.\., 64\) or \(\.\.\., 1, 8, 8\)"):
        ConvEncoder(8, 3)(torch.zeros(5, 63))
    with pytest.raises(ValueError, match=r"which leave none. Give fewer channels"):
        ConvDecoder(2, 8, (4, 4, 4, 4))
