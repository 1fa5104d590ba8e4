import type { AbortOptions } from '../../common/abort.ts';
import { BackupError } from '../../common/errors.ts';
import type { ObjectInfo } from '../cloud-target.ts';
import { parseListPage, type S3ListPage } from './s3-answers.ts';
import type { S3Query } from './s3-client.ts';
import type { S3Connection } from './s3-connection.ts';
import type { S3Tags } from './s3-tags.ts';
import { MAX_XML_BYTES } from './s3-xml.ts';

/**
 * L4: whether a server's first page has the first keys. A listing may be left after its first page, and keys that are in order within a
 * page don't show that the pages are: the newest part of a log could be on another one. So the first listing of a target that has more
 * than one page is asked for once more, with a page of one key. A server that begins elsewhere than at the smallest key
 * has another key there, unless its pages are all of one size whatever is asked for.
 */
export class S3PageOrder {
  readonly #connection: S3Connection;
  readonly #tags: S3Tags;
  #isSeen = false;

  constructor(connection: S3Connection, tags: S3Tags) {
    this.#connection = connection;
    this.#tags = tags;
  }

  /**
   * @param query - that of the page
   * @param page - the first one of a listing
   * @param isThere - asks for an object by its name
   * @throws `TARGET_ERROR` if the page does not begin with the first key
   */
  async check(
    what: string,
    query: S3Query,
    page: S3ListPage,
    isThere: (object: ObjectInfo) => Promise<boolean>,
    { signal }: AbortOptions,
  ): Promise<void> {
    const [first] = page.objects;
    if (this.#isSeen || page.nextToken === undefined || first === undefined) return;
    const alone = { ...query, 'max-keys': '1' };
    const { body } = await this.#connection.send({
      what,
      method: 'GET',
      query: alone,
      maxAnswerBytes: MAX_XML_BYTES,
      signal,
    });
    const [other] = parseListPage(what, body, this.#tags).objects;
    // What begins earlier may have been put in between. Then the next listing shows it.
    if (other === undefined || other.key < first.key) return;
    // What begins later shows nothing where the first object was deleted in between.
    if (other.key > first.key) {
      if (!(await isThere(first))) return;
      const how = `a page of one begins at ${other.key}, and ${first.key} is there`;
      throw new BackupError('TARGET_ERROR', `${what}: the server does not list its pages in key order: ${how}`);
    }
    this.#isSeen = true;
  }
}
