// The two tools that the SDKs' loops offer, and how their tests see what ran: see ../sdk_loops.py.

export const CITY = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
export const NOTHING = { type: "object", properties: {}, additionalProperties: false };

/** The tools' functions, which note that they were called. */
export function noting() {
  const calls = [];
  return {
    calls,
    getWeather: ({ city }) => (calls.push(["get_weather", { city }]), `rain in ${city}`),
    now: () => (calls.push(["now", {}]), "noon"),
  };
}
