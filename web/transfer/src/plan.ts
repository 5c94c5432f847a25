// How a file is cut into parts. S3's rules: all parts but the last have one size, at least 5 MiB, and there
// are at most 10,000 of them.

const MIB = 1024 ** 2;
const MIN_BYTES = 5 * MIB;
const MAX_PARTS = 10_000;

/** A part costs two round trips besides its bytes; what is lost with a connection is a part. */
const USUAL_BYTES = 8 * MIB;

/** What browsers open to a host. A number of parts that it divides leaves none of them idle at the end. */
export const CONNECTIONS = 6;

/** Bytes in each part but the last. */
export function partSizeOf(size: number): number {
  const rounds = Math.max(1, Math.round(size / (CONNECTIONS * USUAL_BYTES)));
  const even = Math.ceil(size / (CONNECTIONS * rounds));
  return Math.max(MIN_BYTES, Math.ceil(size / MAX_PARTS), even);
}

/** The parts of a file, 1…count. */
export class Plan {
  readonly size: number;
  readonly partSize: number;
  readonly count: number;

  constructor(size: number, partSize: number) {
    this.size = size;
    this.partSize = partSize;
    this.count = Math.ceil(size / partSize);
  }

  /** Where a part begins. */
  start(number: number): number {
    return (number - 1) * this.partSize;
  }

  /** How long a part is. */
  length(number: number): number {
    return Math.min(this.partSize, this.size - this.start(number));
  }
}
