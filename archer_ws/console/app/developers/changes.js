// Redraws a panel when frames arrive, at most a few times per second. Nothing runs while no panel is shown.

import { useEffect, useReducer } from "../vendor/preact-hooks.js";
import { frameListeners } from "../state/wire.js";

/**
 * @param {number} ms how long changes are collected
 * @param {() => boolean} [isMoving] whether the panel also changes without frames
 */
export function useChanges(ms, isMoving) {
  const [, draw] = useReducer((/** @type {number} */ count) => count + 1, 0);
  useEffect(() => {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const soon = () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        draw(undefined);
        if (isMoving?.()) soon();
      }, ms);
    };
    frameListeners.add(soon);
    if (isMoving?.()) soon();
    return () => {
      frameListeners.delete(soon);
      clearTimeout(timer);
    };
  }, [ms]);
  return () => draw(undefined);
}
