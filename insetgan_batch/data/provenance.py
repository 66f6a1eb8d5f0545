"""Where an image comes from, inside of its PNG: as text for this program, as XMP for all others.

The text `insetgan_batch` holds the whole provenance as JSON. The XMP packet says that the image was
made by a trained model, in the vocabulary of the IPTC (DigitalSourceType), and names seeds,
weights, version, and every text of the provenance. Both are part of the file's bytes, so whoever
copies the file copies them. A picture that a row gave, and that is only kept beside its result, is
not marked as synthetic: this program does not know what it is.
"""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from PIL import Image, PngImagePlugin

from insetgan_batch import __version__
from insetgan_batch.errors import StorageError
from insetgan_batch.records import CONSENT_NOTE, Item

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""The IPTC's word for an image that a trained model has painted."""

_TEXT_KEY = "insetgan_batch"
_XMP_KEY = "XML:com.adobe.xmp"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_NAMED = {"item_id", "code_version"}  # what has a property by another name
_XMP = "http://ns.adobe.com/xap/1.0/"
_OWN = "urn:insetgan-batch:provenance:1/"
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# zlib's; its usual 6 takes twice the time and saves 4 to 10 % of the bytes.
_COMPRESSION = 4
_BROKEN_PNG = (OSError, SyntaxError, ValueError, TypeError)


def origin(item: Item, attempt: str, run_id: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance of what an attempt leaves; said: by its method."""
    note = item.meta.get(CONSENT_NOTE)
    return {
        **({} if note is None else {CONSENT_NOTE: note}),
        **said,
        "run_id": run_id,
        "item_id": item.item_id,
        "attempt": attempt,
        "synthetic": True,
        "code_version": __version__,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def to_png(
    image: np.ndarray[Any, np.dtype[np.uint8]], item: Item, provenance: Mapping[str, Any]
) -> bytes:
    """A PNG of an image `[H W 3]` that says where it comes from."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", f"insetgan-batch {__version__}")
    text.add_text(_TEXT_KEY, json.dumps(provenance, sort_keys=True))
    text.add_itxt(_XMP_KEY, _packet(item, provenance))
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, format="PNG", pnginfo=text, compress_level=_COMPRESSION)
    return sink.getvalue()


def read(png: bytes) -> dict[str, Any]:
    """The whole provenance; raises `StorageError` if the PNG says nothing of it."""
    try:
        return dict(json.loads(_texts(png)[_TEXT_KEY]))
    except KeyError as err:
        raise StorageError(f"the PNG has no text `{_TEXT_KEY}`: not made by this program") from err
    except _BROKEN_PNG as err:
        raise StorageError(f"not a PNG with provenance: {err}") from err


def read_xmp(png: bytes) -> dict[str, Any]:
    """The XMP packet: a text, or a dictionary for a list of `name=value`, by the property's name.

    Raises `StorageError` if the PNG has no packet.
    """
    try:
        root = ET.fromstring(_texts(png)[_XMP_KEY])
    except KeyError as err:
        raise StorageError("the PNG has no XMP packet: not made by this program") from err
    except (*_BROKEN_PNG, ET.ParseError) as err:
        raise StorageError(f"not a PNG with XMP: {err}") from err
    found: dict[str, Any] = {}
    for description in root.iter(f"{{{_RDF}}}Description"):
        found |= {_local(name): value for name, value in description.attrib.items()}
        for bag in description:
            pairs = [(entry.text or "").partition("=") for entry in bag.iter(f"{{{_RDF}}}li")]
            found[_local(bag.tag)] = {name: value for name, _, value in pairs}
    return found


def _texts(png: bytes) -> dict[str, str]:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return dict(getattr(image, "text", {}))


def _packet(item: Item, provenance: Mapping[str, Any]) -> str:
    """XMP as the PNG wants it: one packet, not compressed."""
    seeds = dict(provenance.get("seeds", {})) | {"row": item.seed}
    is_synthetic = provenance.get("synthetic", True)
    kind = {"Iptc4xmpExt:DigitalSourceType": DIGITAL_SOURCE_TYPE} if is_synthetic else {}
    facts = kind | {
        "xmp:CreatorTool": f"insetgan-batch {__version__}",
        "insetgan:ItemId": item.item_id,
        "insetgan:Version": provenance.get("code_version", __version__),
    }
    texts = {n: v for n, v in provenance.items() if isinstance(v, str) and n not in _NAMED}
    facts |= {f"insetgan:{name.title().replace('_', '')}": text for name, text in texts.items()}
    attributes = "".join(f"\n    {name}={quoteattr(_text(v))}" for name, v in facts.items())
    spaces = {"rdf": _RDF, "Iptc4xmpExt": _IPTC, "xmp": _XMP, "insetgan": _OWN}
    names = "".join(f"\n    xmlns:{name}={quoteattr(uri)}" for name, uri in spaces.items())
    weights = provenance.get("weights", {})
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/">\n <rdf:RDF xmlns:rdf="{_RDF}">\n'
        f'  <rdf:Description rdf:about=""{names}{attributes}>\n'
        f"{_bag('insetgan:Seeds', seeds)}{_bag('insetgan:WeightsSha256', weights)}"
        '  </rdf:Description>\n </rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="r"?>'
    )


def _bag(name: str, values: Mapping[str, Any]) -> str:
    entries = "".join(f"<rdf:li>{escape(_text(f'{k}={v}'))}</rdf:li>" for k, v in values.items())
    return f"   <{name}><rdf:Bag>{entries}</rdf:Bag></{name}>\n"


def _text(value: object) -> str:
    """Without the characters that XML has no way to write."""
    return _NO_XML.sub("\ufffd", str(value))


def _local(name: str) -> str:
    return name.rpartition("}")[2]
