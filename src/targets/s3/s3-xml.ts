/**
 * Just the XML that S3 answers: elements and text. No document types and hence no entities but the five that XML
 * has by itself, nothing is taken for a number, and depth and length are bounded: the answer comes over a network.
 */

/** An element: its children if it has any, and its text. */
export interface XmlElement {
  readonly name: string;
  readonly children: XmlElement[];
  text: string;
}

const MAX_DEPTH = 16;
/** Some ten times what a page of a listing has. */
const MAX_ELEMENTS = 100_000;
const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
/** A declaration or comment, a CDATA section, a closing tag, an opening tag, or text: in that order. */
const TOKEN =
  /<\?[^>]*\?>|<!--[\s\S]*?-->|<!\[CDATA\[([\s\S]*?)\]\]>|<\/([\w:.-]+)\s*>|<([\w:.-]+)(?:\s[^<>]*?)?(\/?)>|([^<]+)/y;

/** The root element of `text`; undefined when it is not whole, well-formed XML of that kind. */
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

/** The text of the first child of that name. */
export function childText(element: XmlElement, name: string): string | undefined {
  return element.children.find((child) => child.name === name)?.text;
}

/** `text` as the content of an element. */
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
