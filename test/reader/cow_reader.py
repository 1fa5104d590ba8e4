#!/usr/bin/env python3
"""An independent reader of cow-cloud-backup repositories, version 1.

It is written from docs/FORMAT.md alone, without a look at the library's source, so that a mistake that the library makes
both when it writes and when it reads shows, and so does a gap in the page. `test/reader/python-reader.test.ts` runs it on
the golden repositories, on fresh ones, and on ones with flipped bits. It also reads backups when the library can't be run.

    cow_reader.py list FOLDER [--passphrase P | --key HEX | --unwrapped HEX]   one JSON line per backup, oldest first
    cow_reader.py restore FOLDER ID OUT [...] [--zeroes-for-lost]
    cow_reader.py restore-all FOLDER [...]   one JSON line per backup; lost blocks are hashed as zeroes
    cow_reader.py slots FOLDER               the key slots as JSON lines, with what a provider has to unwrap for --unwrapped
    cow_reader.py flips FOLDER [...]         reads {"key", "offset", "bit"} as JSON lines; restores all with that bit flipped

Exit codes: 0, 1 (the output was closed), 2 (something was refused), 3 (usage, or a module is missing). It needs Debian's
python3-cryptography, python3-msgpack and python3-zstandard. `frozenAt` is in UTC. It is stricter than it must be in one thing: if the newest entry of the log is not sound, it refuses
the repository, where it might show the state before that entry.
"""

import copy
import datetime
import hashlib
import hmac
import json
import math
import os
import re
import struct
import sys
import unicodedata
import zlib

try:
    import msgpack
    import zstandard
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
except ImportError as missing:
    packages = "python3-cryptography, python3-msgpack and python3-zstandard"
    print(f"{missing}: install {packages} of Debian, and use its own /usr/bin/python3", file=sys.stderr)
    sys.exit(3)

MAX_SAFE = 2**53 - 1
MAX_SEQ = 2**52 - 2
ZEROES_16, ZEROES_32 = bytes(16), bytes(32)
BLOCK, LEAF, INNER, RUN, TABLE, RELOCATIONS = 1, 2, 3, 4, 5, 6
MAX_RAW = {BLOCK: 2**22, LEAF: 2**22, INNER: 2**24 - 1, RUN: 2**22, TABLE: 2**22, RELOCATIONS: 2**22}


class Refused(Exception):
    """What the reader does not believe, with a code: damaged, unsupported, locked, truncated, fork, missing, lost."""

    def __init__(self, code, why):
        super().__init__(f"{code}: {why}")
        self.code = code


class UsageError(Exception):
    """What the caller has to change about the arguments."""


def need(condition, why, code="damaged"):
    if not condition:
        raise Refused(code, why)


def sha256(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def mac(key, *parts):
    return hmac.digest(key, b"".join(parts), "sha256")


# ---------------------------------------------------------------- MessagePack (conventions of the page)


def _pairs(pairs):
    result = dict(pairs)
    need(len(result) == len(pairs), "a key occurs twice in a map")
    need(all(type(key) is str and key != "__proto__" for key in result), "a map has a key that is not allowed")
    return result


def _no_extension(_code, _data):
    raise Refused("damaged", "MessagePack extension")


def unpack(data):
    try:
        value = msgpack.unpackb(
            data, raw=False, strict_map_key=True, object_pairs_hook=_pairs, ext_hook=_no_extension, use_list=True
        )
    except Refused:
        raise
    except Exception as error:  # The decoder has many classes of errors for malformed bytes.
        raise Refused("damaged", f"no MessagePack: {error}") from None
    counts = [0, 0]
    result = _checked(value, 0, counts)
    need(counts[0] <= 4096 + len(data) // 32, "too many maps")
    need(counts[1] <= 65536 + len(data) // 4, "too many maps, arrays and byte strings")
    return result


def _checked(value, depth, counts):
    kind = type(value)
    if kind is str:
        # A text of fewer characters than a quarter of the limit can't be longer than it.
        need(len(value) <= 2**18 or len(value.encode()) <= 2**20, "a text is too long")
        return value
    if kind is int:
        need(-MAX_SAFE <= value <= MAX_SAFE, "an integer is too large")
        return value
    if kind is bytes:
        counts[1] += 1
        return value
    if kind is list:
        counts[1] += 1
        need(depth < 16, "nested too deeply")
        return [_checked(item, depth + 1, counts) for item in value]
    if kind is dict:
        counts[0] += 1
        counts[1] += 1
        need(depth < 16, "nested too deeply")
        return {_checked(key, depth, counts): _checked(item, depth + 1, counts) for key, item in value.items()}
    if kind is float:
        need(value - value == 0, "a number is not finite")
        return int(value) if value.is_integer() and abs(value) <= MAX_SAFE else value
    need(value is None or kind is bool, "a MessagePack type that the format does not have")
    return value


# ---------------------------------------------------------------- fields


def integer(value, least=-MAX_SAFE, most=MAX_SAFE, what="an integer"):
    need(type(value) is int and least <= value <= most, f"{what} is wrong")
    return value


def number_at(value):
    need(type(value) in (int, float) and -8.64e15 <= value <= 8.64e15, "a time is wrong")
    return value


def octets(value, length, what="bytes"):
    need(type(value) is bytes and len(value) == length, f"{what} are wrong")
    return value


def octets_or_nil(value, length):
    return None if value is None else octets(value, length)


def text(value, most=1024, least=0, what="a text"):
    need(type(value) is str and least <= len(value.encode()) <= most, f"{what} is wrong")
    return value


def array(value, length=None, most=None, what="an array"):
    need(type(value) is list, f"{what} is missing")
    need(length is None or len(value) == length, f"{what} has another length")
    need(most is None or len(value) <= most, f"{what} is too long")
    return value


def mapping(value, what="a map"):
    need(type(value) is dict, f"{what} is missing")
    return value


def once(values, what="an array"):
    values = list(values)
    need(len(set(values)) == len(values), f"{what} has an element twice")
    return values


def session_number(value):
    return integer(value, 1, MAX_SEQ, "a session")


def sessions_of(value, most=None):
    return once([session_number(item) for item in array(value, most=most)], "an array of sessions")


def ids_of(value):
    return once([octets(item, 16) for item in array(value)], "an array of ids")


def pack_name(value):
    session, random = array(value, 2)
    return (session_number(session), octets(random, 16))


def pack_names(value):
    return once([pack_name(item) for item in array(value)], "an array of packs")


def pack_row(value):
    session, random, size, digest = array(value, 4)
    return (session_number(session), octets(random, 16)), integer(size, 0, 2**32 - 1), octets(digest, 32)


def pack_rows(value):
    rows = [pack_row(item) for item in array(value)]
    once([name for name, _, _ in rows], "an array of packs")
    return rows


def slot_names(value):
    names = array(value)
    need(all(type(name) is str and SLOT_NAME.fullmatch(name) for name in names), "the name of a key slot is wrong")
    return once(names, "an array of slots")


# ---------------------------------------------------------------- sections 6 and 4: locations and sealed records


class Location:
    __slots__ = ("pack", "offset", "stored", "codec", "raw")

    def __init__(self, pack, offset, stored, codec, raw):
        ok = 1 <= pack[0] <= MAX_SEQ and codec in (0, 1) and offset >= 8 and 1 <= stored < 2**24
        ok = ok and offset + stored < 2**32 and raw >= 1 and stored <= raw + 28 and (codec == 1 or stored >= raw)
        need(ok, "a location is wrong")
        self.pack, self.offset, self.stored, self.codec, self.raw = pack, offset, stored, codec, raw


def location(value):
    session, random, offset, stored, codec, raw = array(value, 6, what="a location")
    pack = (session_number(session), octets(random, 16))
    return Location(pack, integer(offset), integer(stored), integer(codec), integer(raw))


def pack_key(pack):
    return f"packs/{pack[0]:013x}/{pack[1].hex()}"


def decompress(data, raw_length):
    """One zstd frame, bounded by the raw length, with nothing before or after it."""
    try:
        need(data[:4] == b"\x28\xb5\x2f\xfd", "no zstd frame")
        parameters = zstandard.get_frame_parameters(data)
        need(parameters.dict_id == 0, "a zstd frame has a dictionary")
        need(parameters.window_size <= 2**24, "the window of a zstd frame is too large")
        unknown = (zstandard.CONTENTSIZE_UNKNOWN, 2**64 - 1, -1)
        need(parameters.content_size in unknown or parameters.content_size == raw_length, "a zstd frame has another length")
        at = zstandard.frame_header_size(data)
        last = False
        while not last:
            need(at + 3 <= len(data), "a zstd frame is cut off")
            header = int.from_bytes(data[at : at + 3], "little")
            last, kind, size = header & 1 == 1, header >> 1 & 3, header >> 3
            at += 3 + (1 if kind == 1 else size)
        at += 4 if parameters.has_checksum else 0
        need(at == len(data), "a zstd frame is cut off, or bytes follow it")
        decompressor = zstandard.ZstdDecompressor(max_window_size=2**24)
        with decompressor.stream_reader(data) as reader:
            raw = reader.read(raw_length + 1)
    except zstandard.ZstdError as error:
        raise Refused("damaged", f"zstd: {error}") from None
    need(len(raw) == raw_length, "a zstd frame has another length")
    return raw


def content_of(body, most, what):
    """What the body of an entry, a checkpoint or a page has, decompressed."""
    need(len(body) >= 5, f"{what} is damaged")
    codec, raw_length, content = body[0], int.from_bytes(body[1:5], "little"), body[5:]
    need(codec in (0, 1) and raw_length <= most, f"{what} is damaged")
    if codec == 0:
        need(len(content) == raw_length, f"{what} is damaged")
        return content
    need(len(content) < raw_length <= 65536 + 128 * len(content), f"{what} is damaged")
    return decompress(content, raw_length)


def unpack_entry(body):
    need(body[:1] != b"\x01" or int.from_bytes(body[1:5], "little") <= 2**20, "an entry is too long to be compressed")
    return unpack(content_of(body, 2**23, "an entry"))


def identity_length(kind, raw, fan_out):
    if kind == LEAF:
        return fan_out // 8 + 32 * popcount(raw[: fan_out // 8])
    if kind == INNER:
        return 1 + fan_out // 8 + 32 * popcount(raw[1 : 1 + fan_out // 8])
    if kind == RUN:
        need(len(raw) >= 4, "a run chunk is cut off")
        (entries,) = struct.unpack_from("<I", raw)
        need(1 <= entries <= 65536, "a run chunk has too many entries")
        start, size = 4 + 4 * entries, (entries + 7) // 8
        return start + size + 32 * popcount(raw[start : start + size])
    return len(raw)


def popcount(data):
    return bin(int.from_bytes(data, "little")).count("1")


# ---------------------------------------------------------------- section 2: `format`


class Format:
    def __init__(self, body):
        need(len(body) <= 940, "the body of `format` is too long")
        fields = mapping(unpack(body), "`format`")
        integer(fields.get("minReader"), 1)
        need(fields["minReader"] <= 1, "`format` needs a newer reader", "unsupported")
        features = array(fields.get("readerFeatures"))
        need(all(type(name) is str and name != "" for name in features), "a feature is wrong")
        need(features == [], f"features that this reader does not know: {features}", "unsupported")
        version = integer(fields.get("version"), 1)
        need(fields["minReader"] <= version and integer(fields.get("minWriter"), 1) <= version, "versions are wrong")
        need(all(type(name) is str and name != "" for name in array(fields.get("features"))), "a feature is wrong")
        self.body = body
        self.repository_id = octets(fields.get("repositoryId"), 16)
        pair = (fields.get("hash"), fields.get("cipher"))
        need(pair in (("sha256", "none"), ("hmac-sha256", "aes-256-gcm")), "hash and cipher are wrong")
        self.encrypted = pair[1] == "aes-256-gcm"
        self.fan_out = integer(fields.get("fanOut"), 8, 248)
        need(self.fan_out % 8 == 0, "the fan-out is wrong")
        need(fields.get("mode") in ("shared", "single-writer"), "the mode is wrong")
        self.single_writer = fields["mode"] == "single-writer"
        self.key_slot = fields.get("keySlot")
        if self.key_slot is not None:
            need(self.encrypted and type(self.key_slot) is str and SLOT_NAME.fullmatch(self.key_slot), "keySlot is wrong")


def open_format_object(data):
    """The format and its MAC, which is proven only once there is a key."""
    need(len(data) == 1024, "`format` has another length")
    need(data[:16] == b"cow-cloud-backup", "`format` has another magic")
    need(sha256(b"cow1 format", data[:992]) == data[992:], "the checksum of `format` is wrong")
    (length,) = struct.unpack_from("<I", data, 16)
    need(length <= 940, "`format` is wrong")
    result = Format(data[20 : 20 + length])
    need(not any(data[20 + length : 960]), "`format` is wrong")
    need(result.encrypted or data[960:992] == ZEROES_32, "the MAC of a plain `format` is wrong")
    return result


# ---------------------------------------------------------------- section 3: key slots

SLOT_NAME = re.compile(r"[0-9a-f]{16}")
DEFAULT_WORK = 2**17 * 8
_keks = {}


def hkdf(key, salt, info):
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)


def scrypt_kek(passphrase, salt, n, r, p):
    given = (passphrase, salt, n, r, p)
    if given not in _keks:
        _keks[given] = Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(passphrase)
    return _keks[given]


class Keys:
    def __init__(self, key, repository_id):
        derived = {label: hkdf(key, repository_id, f"cow1 {label}".encode()) for label in LABELS}
        self.__dict__.update({label.replace(" ", "_"): value for label, value in derived.items()})


LABELS = ["content id", "record id", "record key", "footer key", "log key", "format mac", "slot mac"]
_key_sets = {}


def keys_of(key, repository_id):
    if (key, repository_id) not in _key_sets:
        _key_sets[key, repository_id] = Keys(key, repository_id)
    return _key_sets[key, repository_id]


def open_slot(name, data, secret, expected_id, budget):
    """The repository key and the copy of the format in a slot, or a refusal."""
    need(65 <= len(data) <= 65536, "a key slot has a wrong length")
    need(sha256(b"cow1 key slot", data[:-32]) == data[-32:], "the checksum of a key slot is wrong")
    body = data[:-64]
    fields = mapping(unpack(body), "a key slot")
    integer(fields.get("version"), 1)
    need(fields["version"] == 1, "a newer key slot", "unsupported")
    kind = fields.get("kind")
    need(type(kind) is str, "a key slot has no kind")
    need(kind in ("passphrase", "key", "provider"), "a key slot of an unknown kind", "unsupported")
    need(type(fields.get("format")) is bytes, "a key slot has no format")
    copy = Format(fields["format"])
    need(copy.encrypted, "a key slot of a plain repository")
    need(expected_id in (None, copy.repository_id), "a key slot of another repository", "locked")
    need(kind == secret[0], "a key slot for another kind of secret", "locked")
    if kind == "provider":
        text(fields.get("provider"), least=1)
        wrapped = fields.get("wrapped")
        need(type(wrapped) is bytes and 1 <= len(wrapped) <= 16384, "what a provider wrapped is wrong")
        keys = keys_of(secret[1], copy.repository_id)
        need(mac(keys.slot_mac, name.encode(), body) == data[-64:-32], "a key slot of another key", "locked")
        return keys, copy
    salt, nonce = octets(fields.get("salt"), 32), octets(fields.get("nonce"), 12)
    wrapped = octets(fields.get("wrapped"), 48)
    if kind == "passphrase":
        n, r, p = (integer(fields.get(name), 1) for name in "nrp")
        bounded = 128 * n * r <= 2**30 and n * r * p <= 2**23 and 128 * r * p <= 2**26 and p <= 16
        need(bounded and n >= 2 and n & n - 1 == 0 and n.bit_length() - 1 < 16 * r, "scrypt parameters are refused")
        budget[0] -= n * r * p
        need(budget[0] >= 0, "all key slots together cost too much", "locked")
        kek = scrypt_kek(unicodedata.normalize("NFC", secret[1]).encode(), salt, n, r, p)
    else:
        kek = hkdf(secret[1], salt, b"cow1 raw key")
    try:
        aad = b"cow1 slot" + copy.repository_id + name.encode()
        key = AESGCM(kek).decrypt(nonce, wrapped, aad)
    except InvalidTag:
        raise Refused("locked", "a key slot of another secret") from None
    keys = keys_of(key, copy.repository_id)
    need(mac(keys.slot_mac, name.encode(), body) == data[-64:-32], "the MAC of a key slot is wrong")
    return keys, copy


# ---------------------------------------------------------------- section 7: descriptors and backups


class Descriptor:
    def __init__(self, value, fan_out):
        fields = mapping(value, "a descriptor")
        self.size = integer(fields.get("size"), 0)
        self.block_size = integer(fields.get("blockSize"), 4096, 2**22)
        need(self.block_size & self.block_size - 1 == 0, "the block size is wrong")
        self.blocks = -(-self.size // self.block_size)
        need(self.blocks <= 2**32, "the volume has too many blocks")
        self.root = fields.get("root")
        if self.root is not None:
            level, node, where = array(self.root, 3)
            need(self.blocks > 0, "a volume of 0 bytes has a root")
            least = 0
            while fan_out ** (least + 1) < self.blocks:
                least += 1
            need(integer(level) == least, "the root has another level")
            self.root = (level, octets(node, 32), location(where))
        self.runs = [self._run(run) for run in array(fields.get("runs"), most=8)]
        need(sum(chunk[4] for run in self.runs for chunk in run) <= 2**20, "the runs have too many entries")
        self.lost = []
        end = -1
        for item in array(fields.get("lost"), most=65536):
            first, count = array(item, 2)
            need(integer(first) > end and integer(count) >= 1, "lost ranges are wrong")
            end = first + count
            need(end <= self.blocks, "a lost range is beyond the volume")
            self.lost.append((first, count))

    def _run(self, value):
        chunks = []
        previous = -1
        for chunk in array(value, most=1024):
            node, where, first, last, entries = array(chunk, 5)
            need(integer(first) > previous and first <= integer(last) < self.blocks, "the chunks of a run are wrong")
            integer(entries, 1, 65536)
            need(entries <= last - first + 1 and (entries > 1 or first == last), "a chunk is wrong")
            chunks.append((octets(node, 32), location(where), first, last, entries))
            previous = last
        need(chunks, "a run is empty")
        return chunks

    def length_of(self, block):
        return min(self.block_size, self.size - block * self.block_size)

    def packs(self):
        packs = {chunk[1].pack for run in self.runs for chunk in run}
        return packs if self.root is None else packs | {self.root[2].pack}


class Backup:
    def __init__(self, value, fan_out):
        fields = mapping(value, "a backup")
        self.id = octets(fields.get("id"), 16)
        self.volume = text(fields.get("volume"), least=1)
        self.parent = octets_or_nil(fields.get("parent"), 16)
        self.base = octets_or_nil(fields.get("base"), 16)
        self.frozen_at = number_at(fields.get("frozenAt"))
        self.tracking_id = text(fields.get("trackingId"))
        integer(fields.get("point"))
        self.descriptor = Descriptor(fields.get("descriptor"), fan_out)
        need(type(fields.get("intact")) is bool, "a backup is wrong")
        need(fields["intact"] == (self.descriptor.lost == []), "`intact` of a backup is wrong")
        self.metadata = mapping(fields.get("metadata"))
        need(all(type(item) is str for item in self.metadata.values()), "metadata are wrong")
        self.metadata_bytes = sum(len(k.encode()) + len(v.encode()) for k, v in self.metadata.items())
        need(self.metadata_bytes <= 65536, "metadata are too long")
        stats = mapping(fields.get("stats"))
        for name in ("storedBytes", "changedBlocks"):
            integer(stats.get(name), 0)
        need(self.id[12:] == volume_digest(self.volume)[:4], "the id of a backup does not end as its volume says")
        self.fields, self.held, self.seq = fields, False, None

    def key(self):
        return backup_key(self.volume, self.seq)

    def weight(self):
        descriptor = self.descriptor
        total = 600 + (450 if descriptor.root else 0) + 550 * sum(len(run) for run in descriptor.runs)
        total += 56 * len(descriptor.lost) + 64 * len(self.metadata)
        return total + 2 * (len(self.volume.encode()) + len(self.tracking_id.encode()) + self.metadata_bytes)


# ---------------------------------------------------------------- section 9: keys in the catalogue


def volume_digest(volume):
    return sha256(b"cow1 volume", volume.encode())[:16]


def backup_key(volume, seq):
    return volume_digest(volume) + seq.to_bytes(7, "big")


def pack_row_key(session, random):
    return session.to_bytes(7, "big") + random


# ---------------------------------------------------------------- sections 8 and 9: the state


def pack_table(value):
    table, where, packs = array(value, 3)
    return octets(table, 32), location(where), integer(packs, 1)


def pack_tables(value):
    tables = [pack_table(item) for item in array(value)]
    once([table[0] for table in tables], "an array of tables")
    return tables


def relocations_of(value):
    rows = []
    for item in array(value):
        session, random, table, where = array(item, 4)
        rows.append(((session_number(session), octets(random, 16)), (octets(table, 32), location(where))))
    once([row[0] for row in rows], "an array of relocated packs")
    return dict(rows)


def volumes_of(value):
    volumes = [array(item, 2) for item in array(value, most=16384)]
    result = {text(name, least=1): octets_or_nil(base, 16) for name, base in volumes}
    need(len(result) == len(volumes), "a volume occurs twice")
    return result


def feature_names(value):
    return set() if value is None else set(once([text(name, least=1) for name in array(value, most=16384)], "features"))


class Session:
    def __init__(self, owner, volumes, adopted):
        self.owner, self.volumes, self.adopted = text(owner), volumes_of(volumes), sessions_of(adopted, 16384)

    def weight(self):
        texts = 2 * (len(self.owner.encode()) + sum(len(name.encode()) for name in self.volumes))
        return 600 + 64 * len(self.volumes) + 16 * len(self.adopted) + texts

    def without(self, volumes):
        left = copy.copy(self)
        left.volumes = {name: base for name, base in self.volumes.items() if name not in volumes}
        return left


def floor_of(value, seq):
    """The number and the digest of the checkpoint that is the floor, for an entry or a checkpoint of number `seq`."""
    number, digest = array(value, 2)
    need(session_number(number) < seq, "a floor is not below what names it")
    return number, octets(digest, 32)


def anchor_numbers(newest):
    """Of the entries k * 2^j the newest eight for each j, newest first."""
    numbers, step = set(), 1
    while step <= newest:
        top = newest - newest % step
        numbers.update(number for number in range(top, top - 8 * step, -step) if number > 0)
        step *= 2
    return sorted(numbers, reverse=True)


class State:
    def __init__(self, fan_out):
        self.fan_out = fan_out
        self.floor = None
        self.backups, self.pinned, self.heads = {}, {}, {}
        self.open, self.fenced = {}, {}
        self.known, self.tables, self.dead = {}, {}, {}
        self.condemned = {}  # collection: (packs, sessions)
        self.relocations = {}
        self.quarantined = set()
        self.key_slots, self.removed_slots = set(), set()
        self.reader_features = set()

    # -------- packs

    def is_known(self, pack):
        session, random = pack
        if random in self.known.get(session, ()):
            return True
        return bool(self.tables.get(session)) and random not in self.dead.get(session, ())

    def is_condemned(self, pack):
        if self.is_known(pack):
            return False
        return any(pack in packs or pack[0] in sessions for packs, sessions in self.condemned.values())

    def _learn(self, pack, size, digest):
        self.known.setdefault(pack[0], {})[pack[1]] = (size, digest)

    def _condemn(self, pack):
        session, random = pack
        self.known.get(session, {}).pop(random, None)
        if self.tables.get(session):
            self.dead.setdefault(session, set()).add(random)
        self.quarantined.discard(pack)
        self.fenced.pop(session, None)

    def _end_tables_in(self, packs):
        for session, tables in list(self.tables.items()):
            left = {table: entry for table, entry in tables.items() if entry[1].pack not in packs}
            if left:
                self.tables[session] = left
            else:
                del self.tables[session]
                self.dead.pop(session, None)

    def _maps_are_there(self, backups):
        for backup in backups:
            for pack in backup.descriptor.packs():
                need(self.is_known(pack) or pack in self.relocations, "the pack of a map is not known")

    # -------- sessions

    def _end(self, session):
        del self.open[session]
        self._unpin()

    def _unpin(self):
        bases = {base for session in self.open.values() for base in session.volumes.values()}
        self.pinned = {key: value for key, value in self.pinned.items() if key in bases}

    def _fence(self, sessions):
        for session in sessions:
            need(session in self.open, "an entry fences a session that is not open")
            self.fenced[session] = self.open.pop(session)
        if sessions:
            self._unpin()

    # -------- entries

    def fold(self, entry):
        getattr(self, f"_fold_{entry['type']}")(entry)

    def _fold_open(self, entry):
        session = Session(entry.get("owner"), entry.get("volumes"), entry.get("adopt"))
        self._fence(sessions_of(entry.get("fence"), 16384))
        need(all(adopted in self.fenced for adopted in session.adopted), "a session adopts one that is not fenced")
        busy = {name for other in self.open.values() for name in other.volumes}
        need(busy.isdisjoint(session.volumes), "a volume is in another open session")
        bases = [base for base in session.volumes.values() if base is not None]
        need(all(base in self.backups for base in bases), "the base of a session is not there")
        self.open[entry["seq"]] = session

    def _session(self, value):
        need(session_number(value) in self.open, "a session is not open")
        return self.open[value]

    def _fold_commit(self, entry):
        number = entry.get("session")
        session = self._session(number)
        backups = [Backup(item, self.fan_out) for item in array(entry.get("backups"))]
        once([backup.id for backup in backups], "the backups of a commit")
        need(sorted(b.volume for b in backups) == sorted(session.volumes), "a commit has other volumes than its session")
        for backup in backups:
            need(backup.parent == self.heads.get(backup.volume, (None,))[0], "the parent of a backup is not the newest of its volume")
            need(backup.base in (None, session.volumes[backup.volume]), "the base of a backup is not the pinned one")
            need(backup.id not in self.backups and backup.id not in self.pinned, "the id of a backup is in use")
        own = {number, *session.adopted}
        rows = pack_rows(entry.get("packs"))
        for pack, _, _ in rows:
            need(pack[0] in own and not self.is_condemned(pack), "a commit names a pack that it may not")
        tables = pack_tables(entry.get("packTables"))
        names = {pack for pack, _, _ in rows}
        need(all(where.pack in names for _, where, _ in tables), "a table of packs is in another pack")
        for row in rows:
            self._learn(*row)
        for table in tables:
            for each in own:
                self.tables.setdefault(each, {})[table[0]] = table
        self._maps_are_there(backups)
        self._end(number)
        for adopted in session.adopted:
            if adopted in self.fenced:
                self.fenced[adopted] = self.fenced[adopted].without(session.volumes)
        for backup in sorted(backups, key=lambda each: volume_digest(each.volume)):
            backup.seq = entry["seq"]
            self.backups[backup.id] = backup
            self.heads[backup.volume] = (backup.id, backup.seq)

    def _fold_abort(self, entry):
        self._session(entry.get("session"))
        self._end(entry["session"])

    def _live(self, value):
        ids = ids_of(value)
        need(all(each in self.backups for each in ids), "a backup is not there")
        return [self.backups[each] for each in ids]

    def _fold_hold(self, entry):
        if entry.get("reason") is not None:
            text(entry["reason"], least=1)
        for backup in self._live(entry.get("backups")):
            backup.held = True

    def _fold_release(self, entry):
        for backup in self._live(entry.get("backups")):
            need(backup.held, "a backup was not held")
            backup.held = False

    def _fold_forget(self, entry):
        for backup in self._live(entry.get("backups")):
            need(not backup.held, "a held backup was forgotten")
            self.pinned[backup.id] = self.backups.pop(backup.id)
        self._unpin()

    def _fold_keys(self, entry):
        added, removed = slot_names(entry.get("added")), slot_names(entry.get("removed"))
        self.removed_slots |= set(removed)
        self.key_slots = (self.key_slots | set(added)) - self.removed_slots

    def _fold_config(self, entry):
        self.quarantined |= set(pack_names(entry.get("quarantine")))
        self.quarantined -= set(pack_names(entry.get("release")))
        feature_names(entry.get("features"))
        self.reader_features |= feature_names(entry.get("readerFeatures"))

    def _fold_collect(self, entry):
        seq, number = entry["seq"], entry.get("session")
        rows, relocate = pack_rows(entry.get("newPacks")), relocations_of(entry.get("relocate"))
        packs, sessions = pack_names(entry.get("packs")), sessions_of(entry.get("sessions"))
        gone_packs, gone_sessions = pack_names(entry.get("gonePacks")), sessions_of(entry.get("goneSessions"))
        fence = sessions_of(entry.get("fence"))
        redated = [] if entry.get("redated") is None else sessions_of(entry["redated"])
        if entry.get("floor") is not None:
            floor = floor_of(entry["floor"], seq)
            need(self.floor is None or self.floor[0] < floor[0], "the floor of the log does not rise")
            self.floor = floor
        busy = set(self.open) | {adopted for session in self.open.values() for adopted in session.adopted}
        for each in redated:
            if each in self.condemned:
                self._merge(seq, *self.condemned.pop(each))
            else:
                need(each in self.open or each in self.fenced, "an entry dates something anew that is not there")
        for pack in gone_packs:
            found = [part[0] for part in self.condemned.values() if pack in part[0]]
            need(found, "a pack is gone that was not condemned")
            for part in found:
                part.discard(pack)
        for session in gone_sessions:
            found = [part[1] for part in self.condemned.values() if session in part[1]]
            need(found, "a session is gone that was not condemned")
            for part in found:
                part.discard(session)
        self.condemned = {key: part for key, part in self.condemned.items() if part[0] or part[1]}
        if number is None:
            need(not rows and not relocate, "a collection moves records without a session")
        else:
            session = self._session(number)
            need(not session.volumes, "a repacker has volumes")
            own = {number, *session.adopted}
            for pack, size, digest in rows:
                need(pack[0] in own and not self.is_condemned(pack), "a repacker names a pack that it may not")
                self._learn(pack, size, digest)
            self._end(number)
        self._fence(fence)
        for pack in packs:
            need(self.is_known(pack) and pack[0] not in busy, "an entry condemns a pack that it may not")
        need(all(each < seq and each not in busy for each in sessions), "an entry condemns a session that it may not")
        before = set(self.relocations)
        for pack in packs:
            self._condemn(pack)
        for session in sessions:
            self.fenced.pop(session, None)
        self._end_tables_in(set(packs))
        if packs or sessions:
            self._merge(seq, set(packs), set(sessions))
        self.relocations = {key: item for key, item in self.relocations.items() if item[1].pack not in set(packs)}
        for pack, table in relocate.items():
            need(pack in packs or pack in before, "an entry relocates a pack that it does not condemn")
            need(self.is_known(table[1].pack), "a relocation table is in a pack that is not known")
            self.relocations[pack] = table
        self._maps_are_there([*self.backups.values(), *self.pinned.values()])

    def _merge(self, seq, packs, sessions):
        part = self.condemned.setdefault(seq, (set(), set()))
        part[0].update(packs)
        part[1].update(sessions)


def names_of(value):
    need(type(value) is bytes and len(value) % 16 == 0 and len(value) <= 16 * 2**20, "names of packs are wrong")
    return once([value[at : at + 16] for at in range(0, len(value), 16)], "names of packs")


def known_packs(value):
    """By name: size and hash."""
    need(type(value) is bytes and len(value) % 52 == 0, "known packs are wrong")
    rows = {name: (size, digest) for name, size, digest in struct.iter_unpack("<16sI32s", value)}
    need(52 * len(rows) == len(value), "known packs have an element twice")
    need(all(size > 0 for size, _ in rows.values()), "a known pack is empty")
    return rows


def rows_by_session(value, length):
    rows = [array(row, length) for row in array(value)]
    once([session_number(row[0]) for row in rows], "an array of sessions")
    return rows


def stored_backup(item, fan_out, newest):
    """A backup as checkpoints and pages have it, and its weight."""
    backup = Backup(item, fan_out)
    backup.seq = integer(item.get("seq"), 1, newest)
    number_at(item.get("committedAt"))
    session_number(item.get("session"))
    weight = backup.weight()
    if item.get("hold") is not None:
        backup.held = True
        weight += hold_weight(item["hold"])
    return backup, weight


def hold_weight(value):
    at, reason = array(value, 2)
    number_at(at)
    return 0 if reason is None else 2 * len(text(reason, least=1).encode())


class PageRef:
    """How a checkpoint names a page."""

    def __init__(self, value):
        number, self.digest, size, rows, level, first, last = array(value, 7)
        self.number, self.size = session_number(number), integer(size, 1, 2**24, "the size of a page")
        self.rows, self.level = integer(rows, 1, 1024, "the rows of a page"), integer(level, 0, 1, "the level of a page")
        self.first, self.last = octets(first, 23), octets(last, 23)
        need(self.first <= self.last, "the range of a page is wrong")
        self.name = f"catalogue/{self.number:013x}/{octets(self.digest, 32)[:16].hex()}"


def page_refs(value):
    refs = [PageRef(item) for item in array(value, most=65536)]
    bottom = [ref for ref in refs if ref.level == 1]
    need(all(low.last < high.first for low, high in zip(bottom, bottom[1:])), "pages are not in their order")
    need(len(refs) - len(bottom) <= 1, "a checkpoint has two pages of newer rows")
    return refs


def rows_of_page(table, ref, content, stored_bytes, fan_out):
    """The rows of a page: backups and `(volume, seq, id)`, or packs with their size and hash."""
    fields = mapping(content, "a page")
    version = integer(fields.get("v"), 1, what="the version of a page")
    need(version == 1, "a page of a newer program", "unsupported")
    need(fields.get("table") == table, "a page of the other table")
    rows, keys, weight = [], [], 0
    for item in array(fields.get("rows"), ref.rows):
        if table == "packs":
            row = pack_row(item)
            need(row[1] > 0, "a pack is empty")
            key, more = pack_row_key(*row[0]), 300
        elif type(item) is list:
            volume, seq, backup_id = array(item, 3)
            row = (text(volume, least=1), session_number(seq), octets(backup_id, 16))
            key, more = backup_key(volume, seq), 300
        else:
            row, more = stored_backup(item, fan_out, MAX_SEQ)
            key = row.key()
        rows.append(row)
        keys.append(key)
        weight += more
    need(all(low < high for low, high in zip(keys, keys[1:])), "the rows of a page are not in their order")
    need(keys[0] == ref.first and keys[-1] == ref.last, "the rows of a page are not those that were named")
    need(weight <= most_weight(stored_bytes), "a page weighs too much")
    return rows


def most_weight(stored_bytes):
    return min(2**28, 2**23 + 40 * stored_bytes)


def take_in(state, backup_rows, pack_rows_of_pages, forgotten, holds):
    """Adds the rows of all pages to the state of their checkpoint."""
    pins = {base for session in state.open.values() for base in session.volumes.values()}
    found = set()
    for row in backup_rows:
        volume, seq, backup_id = row if type(row) is tuple else (row.volume, row.seq, row.id)
        if state.heads.get(volume, (None, 0))[1] < seq:
            state.heads[volume] = (backup_id, seq)
        if type(row) is tuple:
            continue
        need(backup_id not in found | state.backups.keys() | state.pinned.keys(), "a backup occurs twice")
        found.add(backup_id)
        if backup_id not in forgotten:
            row.held = holds.get(backup_id, row.held)
            state.backups[backup_id] = row
        elif backup_id in pins:
            state.pinned[backup_id] = row
    need(found >= forgotten | holds.keys(), "a checkpoint has changes of a backup that no page has")
    in_order = sorted(state.backups.values(), key=lambda backup: (backup.seq, backup.key()))
    state.backups = {backup.id: backup for backup in in_order}
    for (session, random), size, digest in pack_rows_of_pages:
        if random not in state.dead.get(session, ()):
            known = state.known.setdefault(session, {}).setdefault(random, (size, digest))
            need(known == (size, digest), "two rows of one pack do not say the same")
    # From here on only a table may list a pack that is dead.
    state.dead = {session: names for session, names in state.dead.items() if state.tables.get(session)}


def state_of_checkpoint(fields, seq, fan_out, stored_bytes, read_page):
    """The state that a checkpoint and its pages have, or a refusal: then the checkpoint is ignored."""
    state, weight = State(fan_out), 0
    state.floor = None if fields["floor"] is None else floor_of(fields["floor"], seq)
    numbers, anchors = anchor_numbers(seq), fields.get("anchors")
    need(type(anchors) is bytes and len(anchors) == 16 * len(numbers), "the anchors of a checkpoint are wrong")
    need(anchors[:16] == fields["hash"][:16], "the anchors of a checkpoint are of another entry")
    weight += 200 * len(numbers)
    for target, field in ((state.backups, "backups"), (state.pinned, "pinned")):
        for item in array(fields.get(field)):
            backup, more = stored_backup(item, fan_out, seq)
            need(backup.id not in state.backups and backup.id not in state.pinned, "a backup occurs twice")
            target[backup.id] = backup
            weight += more
    for item in array(fields.get("heads")):
        volume, head, number = array(item, 3)
        need(text(volume, least=1) not in state.heads, "a volume occurs twice")
        state.heads[volume] = (octets(head, 16), session_number(number))
        weight += 160 + 2 * len(volume.encode())
    forgotten, holds = set(ids_of(fields.get("forgotten"))), {}
    for item in array(fields.get("holds")):
        backup_id, hold = array(item, 2)
        need(octets(backup_id, 16) not in holds, "a backup occurs twice")
        holds[backup_id] = hold is not None
        weight += 160 + (0 if hold is None else hold_weight(hold))
    integer(fields.get("goneThrough"), 0)
    pages = {table: page_refs(refs) for table, refs in zip(("backups", "packs"), array(fields.get("pages"), 2))}
    weight += 80 * len(forgotten) + 500 * sum(map(len, pages.values()))
    for target, field in ((state.open, "sessions"), (state.fenced, "fenced")):
        for item in array(fields.get(field)):
            extras = [len(array(extra)) for extra in array(item)[6:]]
            allowed = ([], [2]) if field == "sessions" else ([3], [3, 2])
            need(len(item) >= 6 and extras in allowed, "a session is wrong")
            number, opened, at, owner, volumes, adopted = item[:6]
            octets(opened, 32)
            need(session_number(number) <= seq and number not in state.open and number not in state.fenced, "a session is wrong")
            number_at(at)
            target[number] = Session(owner, volumes, adopted)
            weight += target[number].weight()
            for extra in item[6:]:
                session_number(extra[0])
                number_at(extra[1])
                if len(extra) == 3 and extra[2] is not None:
                    weight += 2 * len(text(extra[2]).encode())
    for session, packs, tables, dead in rows_by_session(fields.get("known"), 4):
        known, gone, tables = known_packs(packs), names_of(dead), pack_tables(tables)
        once([*known, *gone], "names of packs")
        if known:
            state.known[session] = known
        if tables:
            state.tables[session] = {table[0]: table for table in tables}
        if gone:
            state.dead[session] = set(gone)
        weight += 500 + 300 * len(known) + 80 * len(gone) + 500 * len(tables)
    for item in array(fields.get("condemned")):
        need(4 <= len(array(item, most=5)), "a collection is wrong")
        number, at, packs, sessions = item[:4]
        need(session_number(number) not in state.condemned, "a collection occurs twice")
        number_at(at)
        packs = {(session, name) for session, names in rows_by_session(packs, 2) for name in names_of(names)}
        state.condemned[number] = (packs, set(sessions_of(sessions)))
        weight += 450 * len(packs) + 48 * len(sessions)
        if len(item) == 5:
            # Several relocations of one pack may have ended, so that packs may occur more than once.
            weight += 950 * len([relocations_of([row]) for row in array(item[4])])
    state.relocations = relocations_of(fields.get("relocations"))
    rows = rows_by_session(fields.get("quarantined"), 2)
    state.quarantined = {(session, name) for session, names in rows for name in names_of(names)}
    state.key_slots = set(slot_names(fields.get("keySlots")))
    state.removed_slots = set(slot_names(fields.get("removedSlots")))
    need(state.key_slots.isdisjoint(state.removed_slots), "a key slot occurs twice")
    weight += 950 * len(state.relocations) + 350 * len(state.quarantined)
    weight += 80 * (len(state.key_slots) + len(state.removed_slots))
    state.reader_features = feature_names(fields.get("readerFeatures"))
    names = [*feature_names(fields.get("features")), *state.reader_features]
    weight += sum(80 + 2 * len(name.encode()) for name in names)
    need(weight <= most_weight(stored_bytes), "a checkpoint weighs too much")
    if read_page is None:
        return state
    rows = {table: [row for ref in refs for row in read_page(table, ref)] for table, refs in pages.items()}
    take_in(state, rows["backups"], rows["packs"], forgotten, holds)
    return state


# ---------------------------------------------------------------- the repository

ENTRY_TYPES = {"open", "commit", "abort", "hold", "release", "forget", "collect", "keys", "config"}
LOG_NAME = re.compile(r"log/([0-9a-f]{13})(-c)?(?:-([0-9a-f]{32}))?")


class Repository:
    """Opens a repository of any store that has `keys()`, `size(key)` and `read(key, offset, length)`."""

    def __init__(self, objects, secret=None, memo=None):
        self.objects, self.secret = objects, secret
        # Pure functions of all of their arguments, so that 1,000 repositories that differ by a bit are read quickly.
        self.memo = {} if memo is None else memo
        self.keys = None
        names = objects.keys()
        self.newer_checkpoint = False
        self.log = {"entries": {}, "others": {}, "checkpoints": {}}
        self._open_format(names)
        self._list_log(names)
        self.state = self._compute_state()
        self._relocation_tables = {}

    def _whole(self, key, most):
        size = self.objects.size(key)
        need(size is not None, f"{key} is missing", "missing")
        need(size <= most, f"{key} is too long")
        return self.objects.read(key, 0, size)

    def _memoised(self, function, *arguments):
        key = (function.__name__, *arguments)
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = function(*arguments)
        return found

    # -------- format and key

    def _open_format(self, names):
        stored = self._whole("format", 1024) if "format" in names else None
        self.format = None if stored is None else open_format_object(stored)
        slots = sorted(name[5:] for name in names if name.startswith("keys/") and SLOT_NAME.fullmatch(name[5:]))
        if self.format is None:
            log = [name for name in names if LOG_NAME.fullmatch(name)]
            need(log, "there is no repository here", "missing")
            if self.secret is None:
                self.format = self._copy_of_format(log)
        if self.format is not None and not self.format.encrypted:
            need(self.secret is None, "the repository is plain, although a secret was given", "locked")
            return
        need(self.secret is not None, "the repository is encrypted; give --passphrase, --key or --unwrapped", "locked")
        copy = self._unlock(slots)
        if self.format is None:
            self.format = copy
        else:
            need(mac(self.keys.format_mac, stored[:960]) == stored[960:992], "the MAC of `format` is wrong")

    def _copy_of_format(self, log):
        for key in sorted(log):
            data = self._whole(key, 2**24)
            if LOG_NAME.fullmatch(key)[2] is None and len(data) > 32 and sha256(b"cow1 log", data[:-32]) == data[-32:]:
                body = mapping(unpack_entry(data[:-32])).get("format")
                need(type(body) is bytes, "an entry has no copy of `format`")
                return Format(body)
        raise Refused("missing", "`format` is missing, and nothing has a copy of it")

    def _unlock(self, slots):
        hint = self.format.key_slot if self.format else None
        slots.sort(key=lambda name: name != hint)
        budget, refusals, codes = [64 * DEFAULT_WORK], [], set()
        for name in slots[:1000]:
            try:
                data = self._whole(f"keys/{name}", 65536)
                self.keys, copy = open_slot(name, data, self.secret, self.format and self.format.repository_id, budget)
                return copy
            except Refused as refusal:
                refusals.append(f"{name}: {refusal}")
                codes.add(refusal.code)
        # A slot of another secret is the likelier reason, where there is one.
        code = "unsupported" if "unsupported" in codes and "locked" not in codes else "locked"
        raise Refused(code, f"no key slot opens ({'; '.join(refusals) or 'there is none'})")

    # -------- the log

    def _list_log(self, names):
        for name in names:
            match = LOG_NAME.fullmatch(name)
            if match is None:
                continue
            seq, suffix = 2**52 - 1 - int(match[1], 16), match[3]
            if not 1 <= seq <= MAX_SEQ:
                continue
            mine = (suffix is not None) == self.format.single_writer
            kind = "entries" if match[2] is None else "checkpoints"
            if mine or kind == "entries":
                self.log[kind if mine else "others"].setdefault(seq, []).append((name, suffix))

    def _unseal(self, label, seq, data):
        """The body of what is sealed as a log entry is, or None."""
        if self.keys is None:
            ok = len(data) >= 32 and sha256(label, data[:-32]) == data[-32:]
            return data[:-32] if ok else None
        if len(data) < 28:
            return None
        try:
            return AESGCM(self.keys.log_key).decrypt(data[:12], data[12:], label + struct.pack("<Q", seq))
        except InvalidTag:
            return None

    def _entry_object(self, seq, name, suffix):
        """The hash and the body of an object that authenticates, or None."""
        size = self.objects.size(name)
        if size is None or size > 2**23:
            return None
        data = self.objects.read(name, 0, size)
        digest = sha256(data)
        if suffix is not None and digest[:16].hex() != suffix:
            return None
        plain = self._memoised(self._unseal, b"cow1 log", seq, data)
        if plain is None:
            return None
        try:
            body = self._memoised(unpack_entry, plain)
        except Refused:
            return None
        return (digest, body) if type(body) is dict and body.get("seq") == seq else None

    def _is_entry(self, seq, body):
        try:
            self._check_entry(body, seq, True)
            return True
        except Refused as refusal:
            if refusal.code == "unsupported":
                raise
            return False

    def _sound(self, seq):
        """The one object of a number that authenticates."""
        objects = [self._entry_object(seq, name, suffix) for name, suffix in self.log["entries"].get(seq, [])]
        objects = [each for each in objects if each is not None and self._is_entry(seq, each[1])]
        need(len(objects) <= 1, f"two entries of number {seq}", "fork")
        need(objects, f"entry {seq} is missing or damaged")
        return objects[0]

    def _check_entry(self, body, seq, whole):
        mapping(body, "an entry")
        version, kind = body.get("v"), body.get("type")
        need(not (type(version) is int and version > 1), "an entry of a newer program", "unsupported")
        need(not (type(kind) is str and kind not in ENTRY_TYPES), f"an entry of type {kind}", "unsupported")
        need(version == 1 and type(kind) is str, "an entry is wrong")
        need(body.get("seq") == seq, "an entry has another number")
        octets(body.get("prev"), 32)
        need(seq > 1 or body["prev"] == ZEROES_32, "the first entry has another before it")
        octets(body.get("id"), 16)
        number_at(body.get("at"))
        if whole:
            for index, below in enumerate(array(body.get("tail"), most=64)):
                need(seq - 1 - index >= 1, "a tail is too long")
                self._check_entry(below, seq - 1 - index, False)
            if not self.format.encrypted:
                need(type(body.get("format")) is bytes, "an entry has no copy of `format`")

    def _compute_state(self):
        entries = self.log["entries"]
        newest = max(entries, default=0)
        for seq in sorted(self.log["checkpoints"], reverse=True):
            if seq <= newest:
                break
            need(next(self._checkpoints(seq, None), None) is None, "a checkpoint is newer than the log", "truncated")
        if newest == 0:
            others = ((s, n, x) for s, items in self.log["others"].items() for n, x in items)
            need(all(self._entry_object(*other) is None for other in others), "the log is of the other mode")
            return State(self.format.fan_out)
        lowest = 0
        digest, body = self._sound(newest)
        self._check_entry(body, newest, True)
        tail, chain, seq = list(body["tail"]), [], newest
        while True:
            state = self._folded_from(seq, digest, chain)
            if state is not None:
                return state
            need(seq in entries, f"entry {seq} is missing")
            if self.format.single_writer:
                self._one_of(seq, digest)
            if body is None:
                # Not before it is needed: a tail reaches down to a checkpoint, whose own entry is not read.
                found, body = self._sound(seq)
                need(found == digest, f"entry {seq} is not the one that the next one follows")
                self._check_entry(body, seq, True)
                tail = list(body["tail"])
            chain.append(body)
            if seq == 1:
                return self._without_forks(self._fold(State(self.format.fan_out), chain))
            floor = body.get("floor") if body["type"] == "collect" else None
            lowest = max(lowest, 0 if floor is None else floor_of(floor, seq)[0])
            need(seq > lowest or not self.newer_checkpoint, "checkpoints of a newer program", "unsupported")
            need(seq > lowest, f"checkpoint {lowest}, the floor of the log, is missing or damaged")
            seq, digest = seq - 1, body["prev"]
            body = tail.pop(0) if tail else None

    def _folded_from(self, seq, digest, chain):
        """The newest state, if the checkpoint of number `seq` leads to it. Nothing below the floor does."""
        for checkpoint, sealed in self._checkpoints(seq, digest):
            try:
                state = self._fold(checkpoint, chain)
            except Refused as refusal:
                if refusal.code != "damaged":
                    raise
                continue  # It says something else than the entries below, or these are damaged, which shows without it.
            number, expected = state.floor or (0, None)
            if number < seq or (number == seq and expected == sealed):
                return self._without_forks(state)
        return None

    def _without_forks(self, state):
        """Two entries of a number above the floor are a fork; up to the floor they mean nothing."""
        for seq, names in self.log["entries"].items():
            if len(names) > 1 and seq > (state.floor or (0, None))[0]:
                self._sound(seq)
        return state

    @staticmethod
    def _fold(state, chain):
        for entry in reversed(chain):
            state.fold(entry)
        need(not state.reader_features, f"features that this reader does not know: {state.reader_features}", "unsupported")
        return state

    def _one_of(self, seq, digest):
        """In single-writer mode: the listed entry is the one that the next one follows, and the only one that authenticates."""
        names = self.log["entries"][seq]
        need(any(suffix == digest[:16].hex() for _, suffix in names), f"entry {seq} is missing")
        if len(names) > 1:
            self._sound(seq)

    def _checkpoints(self, seq, digest):
        """The checkpoints of a number that can be used. In single-writer mode there may be several."""
        found = (self._checkpoint(seq, digest, *each) for each in self.log["checkpoints"].get(seq, []))
        return (each for each in found if each is not None)

    def _checkpoint(self, seq, digest, name, suffix):
        """The state that a checkpoint has and its digest, if it can be used; without a hash, whether it can be read at all."""
        size = self.objects.size(name)
        if size is None or size > 2**24:
            return None
        data = self.objects.read(name, 0, size)
        if suffix is not None and sha256(data)[:16].hex() != suffix:
            return None
        body = self._unseal(b"cow1 checkpoint", seq, data)
        try:
            raw, stored_bytes = self._packed_content(body)
            fields = mapping(self._memoised(unpack, raw))
            self.newer_checkpoint |= type(fields.get("v")) is int and fields["v"] > 1
            need(fields.get("v") == 1 and fields.get("seq") == seq, "a checkpoint is wrong")
            need(digest is None or octets(fields.get("hash"), 32) == digest, "a checkpoint of another log")
            need("floor" in fields, "a checkpoint lacks a field")
            # Without a hash nobody wants the state, and its pages may be gone.
            read_page = None if digest is None else self._page
            return state_of_checkpoint(fields, seq, self.format.fan_out, stored_bytes, read_page), sha256(data)
        except Refused as refusal:
            if refusal.code == "unsupported":
                raise
            return None

    @staticmethod
    def _packed_content(body):
        """What the body of a checkpoint or a page holds, and the length of it as it is stored."""
        need(body is not None, "a checkpoint or a page is damaged")
        return content_of(body, 2**26, "a checkpoint or a page"), len(body) - 5

    def _page(self, table, ref):
        """The rows of a page, from the first copy of it that can be read."""
        try:
            return self._copy_of_page(ref.name, table, ref)
        except Refused as refusal:
            if refusal.code == "unsupported":
                raise
            return self._copy_of_page(f"{ref.name}-2", table, ref)

    def _copy_of_page(self, key, table, ref):
        size = self.objects.size(key)
        need(size is not None, f"{key} is missing")
        need(size == ref.size, f"{key} has another length")
        data = self.objects.read(key, 0, size)
        need(sha256(data) == ref.digest, f"{key} is not the page that was named")
        raw, stored_bytes = self._packed_content(self._unseal(b"cow1 page", ref.number, data))
        return rows_of_page(table, ref, self._memoised(unpack, raw), stored_bytes, self.format.fan_out)

    # -------- records

    def record(self, kind, record_id, where):
        need(where.raw <= MAX_RAW[kind], "a record is too long")
        pack, offset = self._relocated(where)
        return self._record_at(kind, record_id, where, pack, offset)

    def _record_at(self, kind, record_id, where, pack, offset):
        key = pack_key(pack)
        size = self.objects.size(key)
        need(size is not None, f"{key} is missing", "missing")
        need(offset + where.stored <= size, f"{key} is too short")
        stored = self.objects.read(key, offset, where.stored)
        return self._memoised(self._open_record, kind, record_id, where.codec, where.raw, stored)

    def _open_record(self, kind, record_id, codec, raw_length, stored):
        compressed = stored
        if self.keys is not None:
            need(len(stored) > 28, "a record is too short")
            aad = b"cow1 record" + struct.pack("<BBI", kind, codec, raw_length) + record_id
            try:
                key = mac(self.keys.record_key, aad)
                compressed = AESGCM(key).decrypt(stored[:12], stored[12:], aad)
            except InvalidTag:
                raise Refused("damaged", "a record does not authenticate") from None
        if codec == 1:
            need(len(compressed) < raw_length, "a record is longer than its content")
            raw = decompress(compressed, raw_length)
        else:
            raw = compressed
        need(len(raw) == raw_length, "a record has another length")
        need(self._id_of(kind, raw) == record_id, "a record has another id")
        return raw

    def _id_of(self, kind, raw):
        if kind == BLOCK:
            return sha256(raw) if self.keys is None else mac(self.keys.content_id, raw)
        identity = bytes([kind]) + raw[: identity_length(kind, raw, self.format.fan_out)]
        return sha256(b"cow1 record id", identity) if self.keys is None else mac(self.keys.record_id, identity)

    def _relocated(self, where):
        table = self.state.relocations.get(where.pack)
        if table is None:
            return where.pack, where.offset
        if table[0] not in self._relocation_tables:
            self._relocation_tables[table[0]] = self._relocation_table(*table)
        row = self._relocation_tables[table[0]].get(where.offset)
        need(row is not None and row[2] == where.stored, "a relocation leads nowhere")
        return row[0], row[1]

    def _relocation_table(self, table_id, where):
        need(where.raw <= MAX_RAW[RELOCATIONS], "a record is too long")
        raw = self._record_at(RELOCATIONS, table_id, where, where.pack, where.offset)
        need(len(raw) % 36 == 0 and len(raw) > 0, "a relocation table is wrong")
        rows, previous = {}, -1
        for old, session, random, offset, stored in struct.iter_unpack("<IQ16sII", raw):
            need(old > previous and (old >= 8 or old == 0 and len(raw) == 36), "a relocation table is wrong")
            # The raw length and the codec are those of the old location, so that only these parts are to be checked.
            Location((session, random), offset, stored, 1, stored)
            rows[old], previous = ((session, random), offset, stored), old
        return rows if 0 not in rows else {}

    # -------- maps

    def blocks(self, descriptor):
        """All blocks with content: number -> (id, location). The tree, then runs from the oldest to the newest."""
        found = {}
        if descriptor.root is not None:
            level, node, where = descriptor.root
            self._node(descriptor, level, 0, node, where, found)
        for run in reversed(descriptor.runs):
            for chunk in run:
                self._chunk(descriptor, *chunk, found)
        for first, count in descriptor.lost:
            for block in range(first, first + count) if count < len(found) else list(found):
                if first <= block < first + count:
                    found.pop(block, None)
        return found

    def _node(self, descriptor, level, number, node, where, found):
        fan_out = self.format.fan_out
        most = 7 + fan_out // 8 + (66 if level == 0 else 70) * fan_out
        need(where.raw <= most + (fan_out * (2 + 30 * fan_out) if level == 1 else 0), "a node is too long")
        raw = self.record(LEAF if level == 0 else INNER, node, where)
        if level == 0:
            self._leaf(descriptor, number, raw, found)
            return
        need(raw[0] == level, "a node has another level")
        bits = bits_of(raw[1 : 1 + fan_out // 8], fan_out)
        children = [bit for bit in range(fan_out) if bits[bit]]
        need(children, "a node has no children")
        span = fan_out**level
        need((number * fan_out + children[-1]) * span < descriptor.blocks, "a node is beyond the volume")
        at = 1 + fan_out // 8
        ids = [raw[at + 32 * i : at + 32 * i + 32] for i in range(len(children))]
        part = LocationPart(raw, at + 32 * len(children))
        places = [part.location(part.u32_after_location()) for _ in children]
        if level == 1:
            for _ in children:
                count = part.unsigned("<H")
                need(1 <= count <= fan_out, "the usage of a node is wrong")
                once([part.usage() for _ in range(count)], "the usage of a node")
        part.finish()
        for child, child_id, place in zip(children, ids, places):
            self._node(descriptor, level - 1, number * fan_out + child, child_id, place, found)

    def _leaf(self, descriptor, number, raw, found):
        fan_out = self.format.fan_out
        bits = bits_of(raw[: fan_out // 8], fan_out)
        blocks = [number * fan_out + bit for bit in range(fan_out) if bits[bit]]
        need(blocks and blocks[-1] < descriptor.blocks, "a leaf is wrong")
        self._contents(descriptor, raw, fan_out // 8, blocks, found)

    def _chunk(self, descriptor, node, where, first, last, entries, found):
        raw = self.record(RUN, node, where)
        (count,) = struct.unpack_from("<I", raw)
        need(count == entries, "a run chunk has another number of entries")
        start = 4 + 4 * count
        need(len(raw) >= start + (count + 7) // 8, "a run chunk is cut off")
        numbers = struct.unpack_from(f"<{count}I", raw, 4)
        need(all(a < b for a, b in zip(numbers, numbers[1:])), "a run chunk is not in order")
        need(numbers[0] == first and numbers[-1] == last, "a run chunk has other blocks")
        bits = bits_of(raw[start : start + (count + 7) // 8], count)
        present = [block for index, block in enumerate(numbers) if bits[index]]
        for block in numbers:
            found.pop(block, None)
        self._contents(descriptor, raw, start + (count + 7) // 8, present, found)

    def _contents(self, descriptor, raw, at, blocks, found):
        part = LocationPart(raw, at + 32 * len(blocks))
        for index, block in enumerate(blocks):
            block_id = raw[at + 32 * index : at + 32 * index + 32]
            found[block] = (block_id, part.location((*part.short(), descriptor.length_of(block))))
        part.finish()

    # -------- content

    def content(self, backup):
        """The bytes of a backup, in order; lost blocks are zeroes."""
        descriptor, at = backup.descriptor, 0
        found = self.blocks(descriptor)
        for block in sorted(found):
            yield from zeroes(block * descriptor.block_size - at)
            data = self.record(BLOCK, *found[block])
            yield data
            at = block * descriptor.block_size + len(data)
        yield from zeroes(descriptor.size - at)

    def row_of_pack(self, pack):
        """Size and hash of a pack, by the state, or by the entry that lists it: the state has none that a table lists."""
        known = self.state.known.get(pack[0], {}).get(pack[1])
        if known is not None:
            return known
        if not self.log["entries"]:
            return None
        seq = max(self.log["entries"])
        digest, body = self._sound(seq)
        while True:
            for name, size, checksum in pack_rows(body.get("packs" if body["type"] == "commit" else "newPacks") or []):
                if name == pack:
                    return size, checksum
            if seq == 1:
                return None
            seq, wanted = seq - 1, body["prev"]
            digest, body = self._sound(seq)
            need(digest == wanted, f"entry {seq} is not the one that the next one follows")

    def check_pack(self, key):
        """Reads a pack by its footer, with each of its records, and compares it with its row in the log."""
        size = self.objects.size(key)
        need(size is not None and 24 <= size < 2**32, f"{key} is missing or has a wrong length")
        data = self.objects.read(key, 0, size)
        session, random = key.split("/")[1:]
        pack = (int(session, 16), bytes.fromhex(random))
        row = self.row_of_pack(pack)
        need(row in (None, (size, sha256(data))), "a pack is not the one that the log has")
        need(data[:8] == b"CWPACK01" and data[-8:] == b"CWFOOT01", "a pack has another magic")
        (length,) = struct.unpack_from("<I", data, size - 12)
        start = size - 12 - length
        need(start >= 8, "a footer is too long")
        sealed = data[start : size - 12]
        if self.keys is None:
            need(length >= 32 and sha256(sealed[:-32]) == sealed[-32:], "the checksum of a footer is wrong")
            footer = sealed[:-32]
        else:
            need(length >= 28, "a footer is too short")
            try:
                aad = b"cow1 footer" + key.encode()
                footer = AESGCM(self.keys.footer_key).decrypt(sealed[:12], sealed[12:], aad)
            except InvalidTag:
                raise Refused("damaged", "a footer does not authenticate") from None
        need(len(footer) >= 36, "a footer is too short")
        rows, digest = struct.unpack_from("<I32s", footer)
        need(rows <= 2**20 and len(footer) == 36 + 48 * rows, "a footer has another length")
        offset = 8
        for record_id, stored, packed, _hint in struct.iter_unpack("<32sIIQ", footer[36:]):
            kind, codec, raw = packed >> 28, packed >> 24 & 15, packed & 0xFFFFFF
            need(kind in MAX_RAW and raw <= MAX_RAW[kind], "a row of a footer is wrong")
            where = Location(pack, offset, stored, codec, raw)
            need(offset + stored <= start, "the rows of a footer are too long")
            record = self._record_at(kind, record_id, where, pack, offset)
            if kind in (LEAF, INNER, RUN):
                LocationPart(record, identity_length(kind, record, self.format.fan_out))
            offset += stored
        padding = b"\x80" + bytes(-(offset + 9) % 64) + struct.pack(">Q", 8 * offset)
        need(data[offset:start] == padding, "the rows and the padding do not fill the pack")
        need(sha256(data[:offset]) == digest, "the digest of a pack's records is wrong")


class LocationPart:
    def __init__(self, raw, start):
        self.raw, self.start, self.at, self.seen = raw, start, start, 0
        need(len(raw) >= start + 6, "a location part is cut off")
        (check,) = struct.unpack_from("<I", raw, len(raw) - 4)
        need(zlib.crc32(raw[start:-4]) == check, "the check of a location part is wrong")
        self.end = len(raw) - 4
        self.packs = [(self.unsigned("<Q"), self._take(16)) for _ in range(self.unsigned("<H"))]
        once(self.packs, "the packs of a location part")
        need(all(1 <= session <= MAX_SEQ for session, _ in self.packs), "a pack of a location part is wrong")

    def _take(self, count):
        need(self.at + count <= self.end, "a location part is cut off")
        self.at += count
        return self.raw[self.at - count : self.at]

    def unsigned(self, form):
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _pack(self, index):
        need(index <= self.seen and index < len(self.packs), "the packs of a location part are in another order")
        self.seen = max(self.seen, index + 1)
        return self.packs[index]

    def short(self):
        index, offset, packed = struct.unpack("<HII", self._take(10))
        return self._pack(index), offset, packed & 0xFFFFFF, packed >> 24

    def u32_after_location(self):
        return (*self.short(), self.unsigned("<I"))

    def location(self, parts):
        return Location(*parts)

    def usage(self):
        index, _stored = struct.unpack("<HI", self._take(6))
        return self._pack(index)

    def finish(self):
        need(self.at == self.end, "a location part has another length")
        need(self.seen == len(self.packs), "a location part names a pack that it does not refer to")


def bits_of(data, count):
    bits = [data[i >> 3] >> (i & 7) & 1 for i in range(8 * len(data))]
    need(not any(bits[count:]), "padding bits are set")
    return bits


ZEROES = bytes(2**20)


def zeroes(count):
    for _ in range(count >> 20):
        yield ZEROES
    if count & 0xFFFFF:
        yield ZEROES[: count & 0xFFFFF]


# ---------------------------------------------------------------- section 11: objects in a folder, or in memory


class Folder:
    """Objects are files of the key's name. Links are not followed."""

    def __init__(self, path):
        need(os.path.isdir(path), f"{path} is no folder", "missing")
        self.path = path

    def keys(self):
        result = {name for name in ("format",) if os.path.isfile(os.path.join(self.path, name))}
        for top in ("keys", "log"):
            folder = os.path.join(self.path, top)
            if os.path.isdir(folder) and not os.path.islink(folder):
                with os.scandir(folder) as entries:
                    result |= {f"{top}/{entry.name}" for entry in entries if entry.is_file(follow_symlinks=False)}
        return result

    def size(self, key):
        try:
            return os.lstat(os.path.join(self.path, key)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, key, offset, length):
        handle = os.open(os.path.join(self.path, key), os.O_RDONLY | os.O_NOFOLLOW)
        try:
            data = os.pread(handle, length, offset)
        finally:
            os.close(handle)
        need(len(data) == length, f"{key} is too short")
        return data


class Memory:
    def __init__(self, objects):
        self.objects = objects

    @staticmethod
    def of_folder(path):
        objects = {}
        for folder, _, names in os.walk(path):
            for name in names:
                file = os.path.join(folder, name)
                with open(file, "rb") as handle:
                    objects[os.path.relpath(file, path).replace(os.sep, "/")] = handle.read()
        return objects

    def keys(self):
        return set(self.objects)

    def size(self, key):
        return len(self.objects[key]) if key in self.objects else None

    def read(self, key, offset, length):
        return self.objects[key][offset : offset + length]


# ---------------------------------------------------------------- commands


def digest_of(repository, backup):
    digest = hashlib.sha256()
    for part in repository.content(backup):
        digest.update(part)
    return digest.hexdigest()


def iso_time(milliseconds):
    """ISO 8601 in UTC; None for a time that is outside of Python's years."""
    try:
        time = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=math.floor(milliseconds))
        return f"{time.isoformat(timespec='milliseconds')}Z"
    except OverflowError:
        return None


def describe(backup):
    descriptor = backup.descriptor
    return {
        "id": backup.id.hex(),
        "volume": backup.volume,
        "frozenAt": iso_time(backup.frozen_at),
        "size": descriptor.size,
        "blockSize": descriptor.block_size,
        "metadata": backup.metadata,
        "lost": [list(pair) for pair in descriptor.lost],
    }


def say(value):
    print(json.dumps(value), flush=True)


def list_backups(path, secret):
    for backup in Repository(Folder(path), secret).state.backups.values():
        say(describe(backup))
    return 0


def restore_all(path, secret):
    repository, status = Repository(Folder(path), secret), 0
    for backup in repository.state.backups.values():
        try:
            say({**describe(backup), "sha256": digest_of(repository, backup)})
        except Refused as refusal:
            say({**describe(backup), "refused": str(refusal)})
            status = 2
    return status


def restore(path, wanted, out, secret, zeroes_for_lost):
    if os.path.lexists(out):
        raise UsageError(f"{out} is there already: give the path of a file that does not exist")
    repository = Repository(Folder(path), secret)
    backup = next((each for each in repository.state.backups.values() if each.id.hex() == wanted), None)
    need(backup is not None, f"there is no backup {wanted}", "missing")
    need(zeroes_for_lost or not backup.descriptor.lost, "blocks are lost; --zeroes-for-lost restores the rest", "lost")
    partial = f"{out}.partial-{os.getpid()}"
    try:
        with open(partial, "xb") as handle:
            for part in repository.content(backup):
                handle.write(part)
            handle.flush()
            os.fsync(handle.fileno())
        try:
            os.link(partial, out)  # Unlike rename, it replaces nothing.
        except FileExistsError:
            raise UsageError(f"{out} is there already: give the path of a file that does not exist") from None
    finally:
        if os.path.lexists(partial):
            os.unlink(partial)
    return 0


def list_slots(path):
    folder = Folder(path)
    for key in sorted(folder.keys()):
        if not key.startswith("keys/") or not SLOT_NAME.fullmatch(key[5:]) or folder.size(key) > 65536:
            continue
        data = folder.read(key, 0, folder.size(key))
        if len(data) < 65 or sha256(b"cow1 key slot", data[:-32]) != data[-32:]:
            say({"slot": key[5:], "damaged": True})
            continue
        fields = mapping(unpack(data[:-64]), "a key slot")
        said = {"slot": key[5:], "kind": fields.get("kind")}
        if said["kind"] == "provider":
            said |= {"provider": fields.get("provider"), "wrapped": fields["wrapped"].hex()}
        say(said)
    return 0


def flips(path, secret):
    objects, memo = Memory.of_folder(path), {}
    for line in sys.stdin:
        flip = json.loads(line)
        key = flip["key"]
        changed = bytearray(objects[key])
        changed[flip["offset"]] ^= 1 << flip["bit"]
        say(outcome(Memory({**objects, key: bytes(changed)}), secret, memo, key))
    return 0


def outcome(store, secret, memo, key):
    try:
        repository = Repository(store, secret, memo)
        backups = {}
        for backup in repository.state.backups.values():
            try:
                backups[backup.id.hex()] = digest_of(repository, backup)
            except Refused as refusal:
                backups[backup.id.hex()] = f"refused: {refusal}"
        result = {"backups": backups}
        if key.startswith("packs/"):
            try:
                repository.check_pack(key)
                result["pack"] = "sound"
            except Refused as refusal:
                result["pack"] = f"refused: {refusal}"
        return result
    except Refused as refusal:
        return {"refused": str(refusal)}


def main(arguments):
    counts = {"list": 1, "restore": 3, "restore-all": 1, "slots": 1, "flips": 1}
    kinds = {"--passphrase": "passphrase", "--key": "key", "--unwrapped": "provider"}
    secret, zeroes_for_lost, words = None, False, []
    rest = iter(arguments)
    try:
        for word in rest:
            if word in kinds:
                if secret is not None:
                    raise ValueError("one secret is enough")
                value = next(rest, None)
                if value is None:
                    raise ValueError(f"{word} needs a value")
                secret = (kinds[word], value if word == "--passphrase" else bytes.fromhex(value))
                if word != "--passphrase" and len(secret[1]) != 32:
                    raise ValueError("a key has 64 hex digits")
            elif word == "--zeroes-for-lost":
                zeroes_for_lost = True
            elif word.startswith("--"):
                raise ValueError(f"there is no option {word}")
            else:
                words.append(word)
        if not words or counts.get(words[0]) != len(words) - 1:
            raise ValueError("a command and its arguments are needed")
        if zeroes_for_lost and words[0] != "restore":
            raise ValueError("--zeroes-for-lost is for restore")
    except ValueError as error:
        print(f"{error}\n\n{__doc__}", file=sys.stderr)
        return 3
    try:
        if words[0] == "list":
            return list_backups(words[1], secret)
        if words[0] == "slots":
            return list_slots(words[1])
        if words[0] == "restore":
            return restore(*words[1:], secret, zeroes_for_lost)
        return (restore_all if words[0] == "restore-all" else flips)(words[1], secret)
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        return 2
    except UsageError as error:
        print(error, file=sys.stderr)
        return 3
    except BrokenPipeError:
        # Python flushes its output once more when it ends, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
