// Why a stream is not to be had, where another attempt would change nothing.

export class Refused extends Error {
  /**
   * @param {number} status of HTTP, or a WebSocket's close code
   * @param {object | null} problem the answer's problem document (RFC 9457), where it has one
   */
  constructor(status, problem = null) {
    super(problem?.detail ?? `refused with ${status}`);
    this.name = 'Refused';
    this.status = status;
    this.problem = problem;
  }
}
