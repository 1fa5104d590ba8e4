// Makes a target of your own, here all objects in one SQLite database, and runs the package's conformance suite on it.
import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import { test } from 'node:test';
import type { AbortOptions, CloudTarget, GetOptions, ListOptions, PutOptions } from 'cow-cloud-backup';
import { BackupError, checkKey } from 'cow-cloud-backup';
import { targetConformance } from 'cow-cloud-backup/testing';

class SqliteTarget implements CloudTarget {
  readonly capabilities = { createOnly: true };
  readonly #database: DatabaseSync; // It blocks the event loop while it works: a server would use a thread.
  constructor(path: string) {
    this.#database = new DatabaseSync(path);
    this.#database.exec('CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, body BLOB NOT NULL)');
  }

  async put(key: string, body: Uint8Array<ArrayBuffer>, { createOnly, signal }: PutOptions = {}) {
    this.#query(signal, `INSERT ${createOnly ? '' : 'OR REPLACE'} INTO objects VALUES (?, ?)`, checkKey(key), body);
  }

  async get(key: string, { range, signal }: GetOptions = {}) {
    const [row] = this.#query(signal, 'SELECT body FROM objects WHERE key = ?', checkKey(key));
    if (!(row?.body instanceof Uint8Array)) throw new BackupError('OBJECT_NOT_FOUND', `there is no object ${key}`);
    const { offset, length } = range ?? { offset: 0, length: row.body.length };
    if (offset + length > row.body.length) throw new BackupError('RANGE_UNSATISFIABLE', `object ${key} is shorter`);
    return row.body.slice(offset, offset + length);
  }

  async stat(key: string, { signal }: AbortOptions = {}) {
    const [row] = this.#query(signal, 'SELECT length(body) AS size FROM objects WHERE key = ?', checkKey(key));
    return row && { key, size: Number(row.size) };
  }

  async *list(prefix: string, { after = '', signal }: ListOptions = {}) {
    const select = 'SELECT key, length(body) AS size FROM objects WHERE key > ? AND substr(key, 1, ?) = ? ORDER BY key';
    for (const { key, size } of this.#query(signal, select, after, prefix.length, prefix)) {
      yield { key: String(key), size: Number(size) };
      signal?.throwIfAborted();
    }
  }

  async delete(key: string, { signal }: AbortOptions = {}) {
    this.#query(signal, 'DELETE FROM objects WHERE key = ?', checkKey(key));
  }

  async [Symbol.asyncDispose]() {
    if (this.#database.isOpen) this.#database.close();
  }

  #query(signal: AbortSignal | undefined, sql: string, ...values: SQLInputValue[]) {
    signal?.throwIfAborted();
    if (!this.#database.isOpen) throw new BackupError('CLOSED', 'this SqliteTarget is closed');
    try {
      return this.#database.prepare(sql).all(...values);
    } catch (cause) {
      throw new BackupError(/UNIQUE/.test(`${cause}`) ? 'OBJECT_EXISTS' : 'TARGET_ERROR', `${cause}`, { cause });
    }
  }
}

for (const { name, run } of targetConformance({ open: async () => new SqliteTarget(':memory:') })) test(name, run);
