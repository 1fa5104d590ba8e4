/** Where the S3 server of this run is. */
export interface S3Endpoint {
  readonly endPoint: string;
  readonly port: number;
  readonly useSSL: boolean;
  readonly accessKey: string;
  readonly secretKey: string;
}

/** What the file says that announces a server of this run's own: where it is, or why it could not be started. */
export type S3Announcement = { readonly endpoint: S3Endpoint } | { readonly failure: string };

declare module 'vitest' {
  interface ProvidedContext {
    /**
     * The server, or the path of the file that will announce it: it starts while other tests run already. `null` where there
     * is none: the suites that need it are skipped, and the run says so at its end.
     */
    s3: S3Endpoint | { readonly announcedIn: string } | null;
  }
}
