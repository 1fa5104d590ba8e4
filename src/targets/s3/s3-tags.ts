import type { IncomingHttpHeaders } from 'node:http';

/**
 * The tag of an object: its ETag without the quotes, which some servers leave out in some answers. A weak ETag (`W/"..."`) is
 * none: it may stay the same when the bytes change, and proxies make strong ones weak.
 */
export function tagOfEtag(etag: string | undefined): string | undefined {
  return /^(?!W\/)"?([\x21\x23-\x7e]{1,256})"?$/.exec(etag?.trim() ?? '')?.[1];
}

/**
 * Whether the ETags of a server identify its objects. Nothing else is ever believed than an ETag that is the same, so it is enough
 * that headers and listings agree on one; where an answer shows that they don't, the target gives no tags from then on.
 */
export class S3Tags {
  #usable: boolean;
  #agree = false;

  constructor(wanted: boolean) {
    this.#usable = wanted;
  }

  /** Whether it is not known yet that listings have the ETags that headers have. */
  get isUnproven(): boolean {
    return this.#usable && !this.#agree;
  }

  /** The tag of an object whose put was answered. Some servers give no ETag there. */
  ofPut({ etag }: IncomingHttpHeaders): string | undefined {
    return this.#usable ? tagOfEtag(etag) : undefined;
  }

  /** The tag of an object whose size or body was answered. Without it, no tag of a listing could be compared with anything. */
  ofObject({ etag }: IncomingHttpHeaders): string | undefined {
    const tag = this.ofPut({ etag });
    if (tag === undefined) this.#usable = false;
    return tag;
  }

  /** The tag of an object in a listing. */
  ofListing(etag: string | undefined): string | undefined {
    return this.ofPut({ etag });
  }

  /** Must be called with the tag that an object has in a listing, and with those that it had in headers before and after it. */
  compare(listed: string | undefined, before: string | undefined, after: string | undefined): void {
    // Otherwise it was replaced meanwhile, is gone, or has no ETag there.
    if (listed === undefined || before === undefined || before !== after) return;
    if (listed === before) this.#agree = true;
    else this.#usable = false;
  }
}
