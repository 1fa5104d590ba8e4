/**
 * A parser for the XML in S3's answers: elements and text. It is our own because the answers come over a network, where an
 * attacker may write them: it knows no document types (and so no entities but the five of XML itself), takes nothing for a
 * number, and bounds depth and length.
 */

/** The longest answer that is a list: a page of a thousand names of about 3 KiB each, in bytes. */
export const MAX_XML_BYTES = 16 * 1024 * 1024;

/** An element with its children and its text. */
export interface XmlElement {
  readonly name: string;
  readonly children: XmlElement[];
  text: string;
}

const MAX_DEPTH = 16;
/** About ten times the number of elements in a page of a listing. */
const MAX_ELEMENTS = 100_000;
const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
/** The alternatives are a declaration or comment, a CDATA section, a closing tag, an opening tag, and text. */
const TOKEN =
  /<\?[^>]*\?>|<!--[\s\S]*?-->|<!\[CDATA\[([\s\S]*?)\]\]>|<\/([\w:.-]+)\s*>|<([\w:.-]+)(?:\s[^<>]*?)?(\/?)>|([^<]+)/y;

/** The root element of `text`; `undefined` if the text is not complete, well-formed XML of this kind. */
export function parseXml(text: string): XmlElement | undefined {
  const document: XmlElement = { name: '', children: [], text: '' };
  const open: XmlElement[] = [document];
  let elements = 0;
  TOKEN.lastIndex = 0;
  const source = text.trim();
  while (TOKEN.lastIndex < source.length) {
    const token = TOKEN.exec(source);
    if (token === null) return undefined;
    const [, cdata, closes, opens, closed, words] = token;
    const parent = open.at(-1) as XmlElement;
    if (cdata !== undefined) parent.text += cdata;
    else if (words !== undefined) parent.text += unescapeXml(words);
    else if (closes !== undefined) {
      if (open.pop()?.name !== closes || open.length === 0) return undefined;
    } else if (opens !== undefined) {
      if (++elements > MAX_ELEMENTS) return undefined;
      const element: XmlElement = { name: opens, children: [], text: '' };
      parent.children.push(element);
      if (closed === '/') continue;
      if (open.push(element) > MAX_DEPTH) return undefined;
    }
  }
  return open.length === 1 && document.children.length === 1 ? document.children[0] : undefined;
}

/** The text of the first child with a name. */
export function childText(element: XmlElement, name: string): string | undefined {
  return element.children.find((child) => child.name === name)?.text;
}

/** Escapes `text` as the content of an element. */
export function escapeXml(text: string): string {
  return text.replace(/[&<>]/g, (character) => (character === '&' ? '&amp;' : character === '<' ? '&lt;' : '&gt;'));
}

function unescapeXml(text: string): string {
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|(\w{1,8}));/gi, (whole, decimal, hex, name) => {
    if (name !== undefined) return ENTITIES[name] ?? whole;
    const point = decimal === undefined ? Number.parseInt(hex, 16) : Number.parseInt(decimal, 10);
    return point <= 0x10ffff ? String.fromCodePoint(point) : whole;
  });
}
