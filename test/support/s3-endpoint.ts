/** Where the S3 server of this run is. */
export interface S3Endpoint {
  readonly endPoint: string;
  readonly port: number;
  readonly useSSL: boolean;
  readonly accessKey: string;
  readonly secretKey: string;
}

declare module 'vitest' {
  interface ProvidedContext {
    /** `null` where there is none: the suites that need it are skipped, and the run says so at its end. */
    s3: S3Endpoint | null;
  }
}
